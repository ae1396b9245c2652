"""A user's mistakes with ``cpm train``: one line that names the thing, exit code 2, and nothing written."""

import shutil
from pathlib import Path

import pytest
import torch

from cpm_repro.cli import main

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


@pytest.mark.parametrize(
    ("line", "wrong", "expected"),
    [
        ("lr_policy:", 'lr_policy: "steps"', "lr_policy"),
        ("gamma:", "gama: 0.333", "gama"),
        ("base_lr:", "base_lr: -1", "base_lr: wanted a positive number, got -1"),
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
