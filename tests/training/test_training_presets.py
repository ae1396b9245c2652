"""Faithful presets against the reference prototxts, field by field; explain; the average of the weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import data_root

from cpm_repro.caffe.lr_policy import as_typed
from cpm_repro.caffe.prototxt import read_prototxt, read_solver
from cpm_repro.cli import main
from cpm_repro.config import PRESETS, RELEASED, center_sigma, cut_off, override, preset
from cpm_repro.data import open_dataset
from cpm_repro.data.loader import crop_of
from cpm_repro.model import build, describe
from cpm_repro.skeleton import Visibility
from cpm_repro.training import load_checkpoint, train
from cpm_repro.training.average import Average
from cpm_repro.training.run_folder import RunFolder

PROTOS = Path(__file__).parents[2] / "protos_reference"
SMALL = {"network.width": 0.05, "augment.crop": 64, "solver.batch": 4, "validate_people": 10}


@pytest.mark.parametrize("name", [name for name in RELEASED if name != "mpii_lsp"])
def test_released_presets_are_the_solver_prototxts(name):
    config = preset(name)
    message = read_solver(PROTOS / name / "pose_solver.prototxt")
    said = {field.name: value for field, value in message.ListFields()}
    solver = config.solver
    assert {key: as_typed(said.pop(key)) for key in ("base_lr", "gamma", "momentum", "weight_decay")} == {
        "base_lr": solver.lr,
        "gamma": solver.gamma,
        "momentum": solver.momentum,
        "weight_decay": solver.weight_decay,
    }
    assert (said.pop("lr_policy"), said.pop("stepsize")) == (solver.schedule, solver.stepsize)
    assert said.pop("max_iter") == config.iterations
    assert (solver.optimizer, solver.warmup, solver.clip) == ("caffe_sgd", 0, 0)
    # what is left says nothing about the recipe
    assert set(said) == {"net", "display", "snapshot", "snapshot_prefix", "solver_mode"}


@pytest.mark.parametrize("name", ["mpii_6stage", "lsp_6stage", "flic_4stage", "mpii_vgg_6stage"])
def test_released_presets_are_the_data_layers(name):
    config = preset(name)
    layer = read_prototxt(PROTOS / name / "pose_train_test.prototxt").layer[0]
    said = {field.name: value for field, value in layer.transform_param.ListFields()}
    augment, target = config.augment, config.target
    assert layer.cpmdata_param.batch_size == config.solver.batch
    assert said.pop("crop_size_x") == said.pop("crop_size_y") == augment.crop
    for key, value in {
        "scale_min": augment.scale_min,
        "scale_max": augment.scale_max,
        "max_rotate_degree": augment.rotate,
        "center_perterb_max": augment.shift,
        "flip_prob": augment.flip,
        "sigma": target.sigma,
        "stride": target.stride,
        "sigma_center": center_sigma(augment.crop),
        "num_parts": describe(config.network.arch).parts,
        "scale_prob": 1.0,
    }.items():
        assert as_typed(said.pop(key)) == value, key
    assert set(said) == {"target_dist", "do_clahe", "np_in_lmdb"}


@pytest.mark.parametrize("name", RELEASED)
def test_released_presets_do_nothing_that_no_prototxt_says(name):
    config = preset(name)
    augment, solver = config.augment, config.solver
    assert (augment.method, augment.target_dist) == ("exact", 1.171)
    assert (augment.half_body, augment.occlusion, augment.photometric) == (0, 0, 0)
    assert (solver.initialisation, solver.precision, solver.average, solver.accumulate) == (
        "caffe",
        "float32",
        0,
        1,
    )
    assert (config.scheme, config.network.stages, config.network.width) == ("end-to-end", None, None)


def test_mpii_and_lsp_together_step_by_the_same_rule():
    assert preset("mpii_lsp").solver.stepsize == 84 * (25925 + 11000) // 16
    assert preset("mpii_lsp").network.arch == "mpii_6stage"


@pytest.mark.parametrize("name", PRESETS)
def test_explain_prints_every_preset(name, capsys):
    assert main(["train", "--explain", name]) == 0
    printed = capsys.readouterr().out
    assert f"solver.lr = {preset(name).solver.lr}" in printed
    assert ("no differences" in printed) == (name in RELEASED)
    assert "note: people come in a new order at every pass; the release" in printed


def test_explain_tells_what_other_options_make_of_a_preset(capsys):
    """It is what would be trained; a run that is not that preset's is refused."""
    assert main(["train", "--explain", "lsp_6stage", "--lr", "0.5", "--set", "solver.clip=1"]) == 0
    printed = capsys.readouterr().out
    assert "  solver.lr = 0.5\n" in printed
    assert "  solver.lr = 0.5 (release: 8e-05)\n  solver.clip = 1.0 (release: 0.0)\n" in printed
    for more, words in (
        (["--lr", "-1"], "learning rate must be positive"),
        (["--preset", "tiny"], "--preset does not go with --explain"),
        (["--resume"], "--resume does not go with --explain"),
        (["--solver", str(PROTOS / "lsp_6stage" / "pose_solver.prototxt")], "--solver does not go with"),
    ):
        assert main(["train", "--explain", "lsp_6stage", *more]) == 2
        assert words in capsys.readouterr().err


def test_explain_of_an_unknown_preset_names_the_nearest(capsys):
    assert main(["train", "--explain", "lsp_6stages"]) == 2
    assert "did you mean lsp_6stage?" in capsys.readouterr().err


def test_differences_are_listed_when_a_run_starts(tmp_path, capsys):
    options = [f"--set={name}={value}" for name, value in SMALL.items() if name != "solver.batch"]
    command = ["train", "--iterations", "1", "--batch", "2", "--out", str(tmp_path / "run"), *options]
    assert main([*command, "--set=augment.fill=0.9"]) == 0
    printed = capsys.readouterr().out
    assert printed.index("warning: people are cut off: ") < printed.index("estimate: ")
    assert "differences from the release's recipe mpii_vgg_6stage:" in printed
    assert "solver.optimizer = muon (release: caffe_sgd)" in printed


def test_average_by_hand():
    net = torch.nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(1.0)
    average = Average(net, 0.5)
    for iteration, value in enumerate((2.0, 4.0)):
        net.weight.data.fill_(value)
        average.update(iteration)
    expected = 0.9 * 2 + 0.1 * 1  # d = 1/10 at first
    d = 2 / 11
    expected = d * expected + (1 - d) * 4
    with average.applied():
        assert net.weight.item() == pytest.approx(expected)
    assert net.weight.item() == 4.0


@pytest.mark.parametrize(("name", "share"), [("lsp_6stage_modern", 0.53), ("lsp_6stage_minutes", 0.8)])
def test_how_much_of_a_crop_a_photographs_person_fills(name, share):
    """What the preset for minutes is for: the longer side of the joints' box, of the crop's."""
    people = open_dataset(str(data_root("lspet")), "train")
    augment = preset(name).augment
    filled = []
    for index in range(0, len(people), 100):
        crop = crop_of(augment).place(people[index], people.skeleton).crop
        labelled = crop.joints[0][crop.visible[0] < Visibility.CROPPED]
        filled.append(np.ptp(labelled, axis=0).max() / augment.crop)
    assert np.median(filled) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(("crop", "share"), [(368, 0.03), (240, 0.59)])
def test_how_many_people_a_photographs_crop_cuts_off(crop, share):
    """By the release's method at its largest multiplier: what a run in a smaller crop is warned of."""
    people = open_dataset(str(data_root("lspet")), "train")
    augment = replace(preset("lsp_6stage").augment, crop=crop)
    assert (cut_off(augment) is None) == (crop == 368)
    cut = []
    for index in range(0, len(people), 40):
        place = crop_of(augment).place(people[index], people.skeleton).crop
        labelled = place.joints[0][place.visible[0] < Visibility.CROPPED]
        cut.append(augment.scale_max * np.abs(labelled - place.center).max() > crop / 2)
    assert np.mean(cut) == pytest.approx(share, abs=0.02)


def small(iterations, **changes):
    config = replace(preset("tiny"), minutes=None, iterations=iterations, validate_every=1.0)
    return override(config, {**SMALL, "solver.average": 0.9, "solver.schedule": "step", **changes})


def test_the_average_is_what_a_checkpoint_is_used_for_and_resumes_exactly(tmp_path):
    result = train(small(6), tmp_path / "whole")
    saved = load_checkpoint(tmp_path / "whole" / "checkpoints" / "last.pt")
    ours = result.net.state_dict()
    assert all(torch.equal(ours[name], saved.model[name]) for name in ours)
    assert not any(torch.equal(saved.raw[name], saved.model[name]) for name in ours if "weight" in name)
    train(small(3), tmp_path / "parts")
    train(small(6), tmp_path / "parts", resume=True)
    again = load_checkpoint(tmp_path / "parts" / "checkpoints" / "last.pt")
    assert all(torch.equal(saved.model[name], again.model[name]) for name in ours)
    assert all(torch.equal(saved.raw[name], again.raw[name]) for name in ours)
    loss = [
        [r["loss"] for r in RunFolder(tmp_path / p).records() if r["kind"] == "train"]
        for p in ("whole", "parts")
    ]
    assert loss[0] == loss[1]


def test_the_caffe_recipe_trains_with_caffe_sgd_and_its_multipliers():
    from cpm_repro.caffe import CaffeSGD
    from cpm_repro.training.recipe import build_optimizers

    net = build("flic_4stage", width=0.02)
    (optimizer,) = build_optimizers(net, preset("flic_4stage").solver).members
    assert isinstance(optimizer, CaffeSGD)
    assert sorted({(g["lr_mult"], g["decay_mult"]) for g in optimizer.param_groups}) == [
        (1.0, 1.0), (2.0, 0.0), (5.0, 1.0), (10.0, 0.0),
    ]  # fmt: skip


@pytest.mark.parametrize("name", [name for name in PRESETS if name.endswith("_modern")])
def test_every_modern_preset_trains(tmp_path, name):
    """At a reduced size: its optimiser, schedule, average and initialisation together, over a few updates."""
    config = replace(preset(name), iterations=4, validate_every=1.0)
    small = {"network.width": 0.02, "network.stages": 3, "solver.batch": 2, "solver.warmup": 0}
    if config.network.arch == "flic_4stage":
        small["network.parts"] = 14  # FLIC has nine, the rendered people fourteen
    result = train(override(config, {**SMALL, **small}), tmp_path / "run")
    records = [record for record in RunFolder(tmp_path / "run").records() if record["kind"] == "train"]
    assert len(records) == 4
    assert all(record["gradient_norm"] > 0 for record in records)
    assert records[-1]["lr"] < records[0]["lr"]
    assert len(result.tables) == 3
    saved = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    assert saved.raw is not None
    moved = [not torch.equal(saved.raw[key], saved.model[key]) for key in saved.raw if "weight" in key]
    assert all(moved)
