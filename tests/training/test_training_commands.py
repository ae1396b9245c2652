"""``cpm train`` and ``cpm eval`` as a user types them."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tf32_settings import tf32_allowed, tf32_flags

from cpm_repro.cli import main
from cpm_repro.config import resolve
from cpm_repro.device import float32_products
from cpm_repro.errors import UserError
from cpm_repro.training import commands

SMALL = ["--set=network.width=0.05", "--set=augment.crop=64", "--batch=2", "--set=validate_people=6"]
OPTIONS = dict.fromkeys(
    (
        "arch", "preset", "data", "weights", "vgg19", "out", "iterations", "minutes", "batch", "stages",
        "parts", "width", "lr", "scheme", "seed", "workers", "checkpoint_iterations",
    )
)  # fmt: skip


def options(**given):
    return {**OPTIONS, "set": [], "resume": False, **given}


def test_train_then_eval(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", "--iterations", "2", "--out", str(run), *SMALL]) == 0
    printed = capsys.readouterr().out
    assert "| Stage | Head | Sho | Elb | Wri | Hip | Kne | Ank | Total |" in printed
    assert (run / "report.md").read_text() in printed
    assert (run / "curves.png").stat().st_size > 1000
    assert json.loads((run / "config.json").read_text())["network"]["width"] == 0.05

    assert main(["eval", "--weights", str(run), "--out", str(tmp_path / "scores")]) == 0
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    saved = np.load(tmp_path / "scores" / "predictions.npz")
    assert len(scores) == 3
    assert saved["pred"].shape == saved["gt"].shape == (500, 14, 2)
    # The file alone gives the printed score again.
    import cpm_repro as cpm

    again = cpm.evaluate(saved["pred"], saved["gt"], "lspet-pck", labelled=saved["labelled"])
    assert again.total == pytest.approx(scores[-1]["total"])


def test_a_network_for_other_parts_is_asked_for(tmp_path, capsys):
    """A nine-part network on data of fourteen parts: the line that refuses it names the option that helps."""
    command = ["train", "--preset", "flic_4stage", "--data", "synthetic", "--iterations", "1", *SMALL]
    assert main([*command, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "synthetic labels 14 parts, the network flic_4stage has 9: give --parts 14" in said
    assert not (tmp_path / "run").exists()
    assert main([*command, "--parts", "14", "--out", str(tmp_path / "run")]) == 0
    assert "flic_4stage: 4 stages, 14 parts, " in capsys.readouterr().out


def test_a_preset_is_overridden_by_single_options_and_those_by_set():
    config = resolve(options(preset="tiny", lr=0.5, iterations=7, set=["solver.lr=0.25", "name=mine"]))
    assert (config.solver.lr, config.name) == (0.25, "mine")
    assert (config.iterations, config.minutes) == (7, None)


def test_an_architecture_with_a_preset_takes_it():
    assert resolve(options(arch="lsp_6stage")).solver.optimizer == "caffe_sgd"


def test_another_architecture_under_a_preset_has_its_own_crop():
    config = resolve(options(preset="tiny", arch="mpii_vgg_6stage", stages=2))
    assert (config.network.arch, config.network.stages) == ("mpii_vgg_6stage", 2)
    assert config.augment.crop == 368


@pytest.mark.parametrize("text", ["solver.lr", "=3"])
def test_assignments_that_are_none(text):
    with pytest.raises(UserError):
        resolve(options(set=[text]))


def test_fine_tuning_lists_what_was_loaded_left_and_ignored(tmp_path, capsys):
    """Two stages from three: the third is ignored; a weight that fits nowhere stays at its filler."""
    assert main(["train", "--iterations", "1", "--out", str(tmp_path / "a"), *SMALL]) == 0
    weights = str(tmp_path / "a" / "checkpoints" / "last.pt")
    capsys.readouterr()
    command = ["train", "--iterations", "1", "--stages", "2", "--weights", weights]
    assert main([*command, "--out", str(tmp_path / "b"), *SMALL]) == 0
    printed = capsys.readouterr().out
    assert "weights from last.pt: loaded" in printed
    assert "not in the network, ignored: Mconv1_stage3" in printed
    other = tmp_path / "other.safetensors"
    assert main(["convert", weights, str(other)]) == 0
    arrays = load_file(other)
    arrays["conv1_1.weight"], arrays["conv1_1.bias"] = torch.zeros(1, 3, 3, 3), torch.zeros(1)
    save_file(arrays, other)
    command[-1] = str(other)
    assert main([*command, "--out", str(tmp_path / "c"), *SMALL]) == 0
    assert "of another shape, left at their filler: conv1_1 wanted" in capsys.readouterr().out


def test_weights_of_which_nothing_fits_are_one_line(tmp_path, capsys):
    """They would be left at their fillers, every layer: a training from nothing that calls itself another."""
    assert main(["train", "--iterations", "1", "--out", str(tmp_path / "a"), *SMALL]) == 0
    weights = str(tmp_path / "a" / "checkpoints" / "last.pt")
    capsys.readouterr()
    command = ["train", "--iterations", "1", "--weights", weights, "--out", str(tmp_path / "b"), *SMALL]
    assert main([*command, "--set=network.width=0.1"]) == 2
    error = capsys.readouterr().err
    assert "last.pt" in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "b").exists()


def test_vgg19_that_is_none_is_one_line(tmp_path, capsys):
    other = tmp_path / "other.safetensors"
    save_file({"other.weight": torch.zeros(1), "other.bias": torch.zeros(1)}, other)
    assert (
        main(["train", "--iterations", "1", "--out", str(tmp_path / "b"), "--vgg19", str(other), *SMALL]) == 2
    )
    error = capsys.readouterr().err
    assert "other.safetensors: not a whole VGG-19" in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "b").exists()


def test_a_batch_larger_than_the_data_is_one_line(tmp_path, capsys):
    big = ["train", "--iterations", "1", "--out", str(tmp_path / "b"), "--set=augment.crop=64"]
    assert main([*big, "--batch", "10000000"]) == 2
    assert "wanted at least one batch of 10000000 people, got" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_scheme_is_named_on_the_command_line(capsys, tmp_path):
    assert resolve(options(scheme="stage-wise")).scheme == "stage-wise"
    assert main(["train", "--scheme", "stagewise", "--iterations", "9", "--out", str(tmp_path / "x")]) == 2
    assert "unknown scheme 'stagewise'; did you mean stage-wise?" in capsys.readouterr().err


def test_scores_are_of_float32_on_a_gpu(tmp_path, monkeypatch):
    """As validation's are while it trains. The device is told that it is a GPU."""
    assert main(["train", "--iterations", "1", "--out", str(tmp_path), *SMALL]) == 0
    seen = set()
    as_on_a_gpu = partial(float32_products, torch.device("cuda"))
    monkeypatch.setattr(commands, "float32_products", lambda _, tf32: as_on_a_gpu(tf32=tf32))
    hook = torch.nn.modules.module.register_module_forward_hook(lambda *_: seen.add(tf32_flags()))
    try:
        with tf32_allowed(True, True):
            assert main(["eval", "--weights", str(tmp_path)]) == 0
            assert tf32_flags() == (True, True)
    finally:
        hook.remove()
    assert seen == {(False, False)}
