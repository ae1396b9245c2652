"""A user's mistakes with ``cpm train``: one line that names the thing, exit code 2, and nothing written."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
import torch
from solver_prototxts import write

import cpm_repro
from cpm_repro.cli import main
from cpm_repro.training.run_folder import RunFolder

PROTOS = Path(__file__).parents[2] / "protos_reference"
SMALL = ["--set=network.width=0.05", "--set=augment.crop=64", "--batch=2", "--set=validate_people=5"]

MISTAKES = {
    "unknown preset": (
        ["--preset", "mpii_6stages"],
        "unknown preset 'mpii_6stages'; did you mean mpii_6stage?",
    ),
    "unknown architecture": (["--arch", "tinny"], "unknown architecture 'tinny'; did you mean tiny?"),
    "unknown setting": (["--set", "solver.lrate=1"], "unknown setting solver.lrate"),
    "setting of another type": (
        ["--set", "solver.batch=many"],
        "setting solver.batch: wanted int, got 'many'",
    ),
    "unknown optimizer": (["--set", "solver.optimizer=sgdd"], "unknown optimizer 'sgdd'"),
    "unknown schedule": (["--set", "solver.schedule=steps"], "unknown schedule 'steps'; did you mean step?"),
    "unknown precision": (["--set", "solver.precision=fp8"], "unknown precision 'fp8'"),
    "unknown scheme": (["--scheme", "stagewise"], "unknown scheme 'stagewise'; did you mean stage-wise?"),
    "other parts than the data": (["--parts", "9"], "synthetic labels 14 parts, the network tiny has 9"),
    "another network's parts": (
        ["--arch", "flic_4stage"],
        "synthetic labels 14 parts, the network flic_4stage has 9",
    ),
    "batch larger than the data": (["--batch", "1000000"], "wanted at least one batch of 1000000 people"),
    "no people": (["--batch", "0"], "batch must be at least 1, got 0"),
    "negative rate": (["--lr", "-1"], "learning rate must be positive, got -1.0"),
    "rate that is none": (["--lr", "nan"], "solver.lr must be finite, got nan"),
    "infinite rate": (["--lr", "inf"], "solver.lr must be finite, got inf"),
    "negative decay": (["--set", "solver.weight_decay=-1"], "weight_decay must not be negative, got -1.0"),
    "momentum that grows": (["--set", "solver.momentum=1.5"], "momentum must lie in [0, 1), got 1.5"),
    "negative momentum": (["--set", "solver.momentum=-0.1"], "momentum must lie in [0, 1), got -0.1"),
    "negative clip": (["--set", "solver.clip=-3"], "clip must not be negative (0: no clipping), got -3.0"),
    "negative gamma": (["--set", "solver.gamma=-1"], "gamma must lie in (0, 1], got -1.0"),
    "gamma that overflows": (["--set", "solver.gamma=1e300"], "gamma must lie in (0, 1], got 1e+300"),
    "no stepsize": (["--set", "solver.stepsize=0"], "stepsize must be positive, got 0"),
    "no data": (["--data", "nowhere/at_all"], "nowhere/at_all"),
    "no weights": (["--weights", "nothing.caffemodel"], "nothing.caffemodel"),
    "lists without end": (["--set", "solver.batch=" + "[" * 100_000], "setting solver.batch: wanted int"),
    "nothing to do": (["--iterations", "0"], "iterations must be positive, got 0"),
    "more passes than people": (["--set", "solver.accumulate=3"], "accumulate must lie in 1 to batch (2)"),
    "no stages": (["--stages", "0"], "stages"),
    "too many stages": (["--stages", "33"], "training runs 1 to 32 stages, the network has 33"),
    "too many threads": (["--workers", "1000000"], "workers must lie in 0 to 256, got 1000000"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_before_any_work(tmp_path, capsys, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    given, expected = MISTAKES[mistake]
    assert main(["train", "--iterations", "1", "--out", "run", *SMALL, *given]) == 2
    captured = capsys.readouterr()
    said = captured.err.strip()
    assert expected in said
    assert said.startswith("cpm train: error: ")
    assert len(said.splitlines()) == 1
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_stages_that_the_weights_do_not_have(tmp_path, capsys):
    assert main(["train", "--iterations=1", "--stages=2", "--out", str(tmp_path / "a"), *SMALL]) == 0
    weights = str(tmp_path / "a" / "checkpoints" / "last.pt")
    capsys.readouterr()
    given = ["--weights", weights, "--stages=3", "--out", str(tmp_path / "b")]
    assert main(["train", "--iterations=1", *given, *SMALL]) == 2
    said = capsys.readouterr().err.strip()
    assert "last.pt has weights of 2 stages, the network has 3: give --stages 2" in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "b").exists()


def test_weights_of_other_kernels_are_of_as_many_stages(tmp_path, capsys):
    """Their stages end in layers of other names: they were called weights of one stage."""
    kernels = "--set=network.refine=3-3"
    assert main(["train", "--iterations=1", kernels, "--out", str(tmp_path / "a"), *SMALL]) == 0
    weights = str(tmp_path / "a" / "checkpoints" / "last.pt")
    capsys.readouterr()
    assert main(["train", "--iterations=1", "--weights", weights, "--out", str(tmp_path / "b"), *SMALL]) == 0
    said = capsys.readouterr().out
    assert "of another shape, left at their filler: Mconv1_stage2 wanted" in said
    assert "not among the weights, left at their filler: Mconv5_stage2" in said


@pytest.mark.parametrize(
    ("line", "wrong", "expected"),
    [
        ("lr_policy:", 'lr_policy: "steps"', "lr_policy"),
        ("gamma:", "gama: 0.333", "gama"),
        ("base_lr:", "base_lr: -1", "base_lr: wanted a positive number, got -1"),
        ("base_lr:", "base_lr: inf", "base_lr: wanted a positive number, got inf"),
        ("momentum:", "momentum: 1.5", "momentum: wanted at least 0 and less than 1, got 1.5"),
        ("momentum:", "momentum: nan", "momentum: wanted at least 0 and less than 1, got nan"),
        ("weight_decay:", "weight_decay: -1", "weight_decay: wanted 0 or a positive number, got -1"),
        ("gamma:", "gamma: -1", "gamma: wanted more than 0 and at most 1 under lr_policy step, got -1"),
        ("gamma:", "gamma: 0.3 clip_gradients: nan", "solver: wanted clip_gradients to be a number, got nan"),
        ("gamma:", "gamma: 0.3 average_loss: -5", "average_loss: wanted at least 1, got -5"),
        ("gamma:", "gamma: 0.3 iter_size: 0", "solver: wanted an iter_size of at least 1, got 0"),
        ("gamma:", 'gamma: 0.3 type: "Nesterov"', "solver: wanted type SGD, got Nesterov"),
        ("gamma:", 'gamma: 0.3 regularization_type: "L1"', "solver: wanted regularization_type L2, got L1"),
        ("gamma:", "gamma: 1e30", "gamma: wanted more than 0 and at most 1 under lr_policy step, got 1e+30"),
    ],
)
def test_a_solver_key_or_policy_that_is_none(tmp_path, capsys, line, wrong, expected):
    shutil.copytree(PROTOS / "mpii_6stage", tmp_path / "protos")
    path = tmp_path / "protos" / "pose_solver.prototxt"
    text = path.read_text().splitlines()
    assert sum(entry.startswith(line) for entry in text) == 1
    path.write_text("\n".join(wrong if entry.startswith(line) else entry for entry in text) + "\n")
    command = ["train", "--solver", str(path), "--data", "synthetic", "--out", str(tmp_path / "run")]
    assert main(command) == 2
    said = capsys.readouterr().err.strip()
    assert expected in said
    assert "pose_solver.prototxt" in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def lspet(folder: Path, labelled: tuple[int, ...]) -> Path:
    """LSP-extended's layout with six people, of whom those numbered in ``labelled`` have labels."""
    rng = np.random.default_rng(0)
    joints = np.zeros((14, 3, 6))
    joints[:, :2] = rng.uniform(10, 90, size=(14, 2, 6))
    joints[:, 2, list(labelled)] = 1
    (folder / "images").mkdir(parents=True)
    scipy.io.savemat(folder / "joints.mat", {"joints": joints})
    for number in range(1, 7):
        cv2.imwrite(str(folder / "images" / f"im{number:05d}.jpg"), np.zeros((100, 100, 3), np.uint8))
    return folder


@pytest.mark.filterwarnings("ignore::cpm_repro.data.annotations.DataWarning")
def test_nobody_held_out_is_said_before_any_work(tmp_path, capsys):
    """The first of six is the one whom LSP-extended's rule holds out, and has no label."""
    data, run = str(lspet(tmp_path / "lspet", (1, 2, 3, 4, 5))), tmp_path / "run"
    assert main(["train", "--iterations", "1", "--data", data, "--out", str(run), *SMALL]) == 2
    *_, said = capsys.readouterr().err.splitlines()
    assert said.startswith(f"cpm train: error: {data}: nobody is held out who can be scored")
    assert not run.exists()
    weights = str(Path(cpm_repro.__file__).parent / "weights" / "tiny-lspet.safetensors")
    assert main(["eval", "--weights", weights, "--data", data]) == 2
    *_, said = capsys.readouterr().err.splitlines()
    assert said.startswith(f"cpm eval: error: {data}: nobody is held out who can be scored")


def test_weights_of_which_nothing_fits_are_refused(tmp_path, capsys, monkeypatch):
    """The run would look like one from these weights, and be one from nothing."""
    monkeypatch.chdir(tmp_path)
    torch.save({"other.weight": torch.zeros(3), "other.bias": torch.zeros(3)}, "w.pt")
    assert main(["train", "--iterations", "1", "--out", "run", *SMALL, "--weights", "w.pt"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "w.pt: wanted weights of this network's layers, such as conv1" in said
    assert said.endswith("got 2 arrays of other names or shapes")


@pytest.mark.parametrize("line", ["[1]", "7", '{"kind": "train"}', '{"iteration": 1}'])
def test_a_run_is_not_resumed_on_metrics_of_something_else(tmp_path, capsys, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    words = ["train", "--out", "run", *SMALL]
    assert main([*words, "--iterations", "1"]) == 0
    (tmp_path / "run" / "metrics.jsonl").write_text(f"{line}\n")
    capsys.readouterr()
    assert main([*words, "--iterations", "2", "--resume"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "metrics.jsonl, line 1: wanted a record that cpm train wrote" in said


def test_a_folder_that_is_trained_into_keeps_others_out(tmp_path, capsys):
    """Their records would mix, and each would write over the other's checkpoints."""
    run = tmp_path / "run"
    other = RunFolder(run)
    other.enter()
    command = ["train", "--iterations", "1", "--out", str(run)]
    solver = ["--solver", str(write(tmp_path)), "--data", "synthetic"]
    for more in ([*SMALL, "--resume"], SMALL, solver):
        assert main([*command, *more]) == 2
        assert f"{run}: another process is training into this folder" in capsys.readouterr().err
        assert list(run.iterdir()) == []
    other.leave()
    for more in ([*SMALL, "--resume"], [*SMALL, "--resume"]):
        assert main([*command, *more]) == 0
    RunFolder(run).enter()
