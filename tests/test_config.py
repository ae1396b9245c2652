"""Configurations: presets, overrides, and one clear line for what cannot work."""

import re
from dataclasses import replace

import pytest

from cpm_repro.config import (
    PRESETS,
    RELEASED,
    TrainConfig,
    center_sigma,
    check,
    cut_off,
    differences,
    first_difference,
    from_dict,
    override,
    preset,
    reference_of,
    to_dict,
    unknown,
)
from cpm_repro.config.options import assignment
from cpm_repro.errors import UserError


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_sound_and_survive_a_round_trip(name):
    config = preset(name)
    check(config)
    assert cut_off(config.augment) is None
    assert from_dict(to_dict(config)) == config


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(UserError, match=r"unknown preset 'tiiny'; did you mean tiny\?"):
        preset("tiiny")


def test_override_reaches_nested_settings():
    config = override(preset("tiny"), {"solver.lr": 0.5, "seed": 3})
    assert (config.solver.lr, config.seed) == (0.5, 3)
    assert preset("tiny").solver.lr != 0.5


def test_override_refuses_unknown_settings():
    with pytest.raises(UserError, match=r"unknown setting solver\.lrr; did you mean lr\?"):
        override(preset("tiny"), {"solver.lrr": 0.5})


def test_centre_sigma_keeps_its_share_of_the_crop():
    assert center_sigma(368) == 21.0
    assert center_sigma(128) == pytest.approx(21 * 128 / 368)


@pytest.mark.parametrize(
    ("dotted", "value", "words"),
    [
        ("solver.batch", 0, "batch must be at least 1, got 0"),
        ("solver.lr", -1.0, "learning rate must be positive"),
        ("augment.crop", 8, "crop must be at least 32 px"),
        ("augment.scale_min", 2.0, "scale range"),
        ("target.sigma", 0.0, "sigma and stride"),
        ("solver.optimizer", "adam", "unknown optimizer 'adam'; did you mean adamw"),
        ("solver.precision", "fp8", "unknown precision"),
        ("workers", -1, "workers"),
        ("seed", -1, r"seed must lie in 0 to 2\^31 - 1"),
    ],
)
def test_numbers_no_run_can_work_with(dotted, value, words):
    with pytest.raises(UserError, match=words):
        check(override(preset("tiny"), {dotted: value}))


def test_a_run_needs_a_budget():
    with pytest.raises(UserError, match="needs a budget"):
        check(replace(TrainConfig(), iterations=None, minutes=None))


def test_a_configuration_of_another_version_says_so():
    values = to_dict(preset("tiny"))
    values["solver"]["flavour"] = "mint"
    with pytest.raises(UserError, match=r"does not fit this version.*flavour"):
        from_dict(values)


def test_unknown_without_a_near_one_lists_all():
    assert unknown("verb", "zzz", ["train", "eval"]) == "unknown verb 'zzz' (known: train, eval)"


@pytest.mark.parametrize(
    ("dotted", "value", "words"),
    [
        ("solver.lr", "fast", "setting solver.lr: wanted float, got 'fast'"),
        ("seed", 1.5, "setting seed: wanted int, got 1.5"),
        ("seed", True, "wanted int, got True"),
        ("iterations", "many", "wanted int or nothing"),
        ("seed.x", 1, "seed has no settings of its own"),
    ],
)
def test_settings_of_another_type(dotted, value, words):
    with pytest.raises(UserError, match=re.escape(words)):
        override(preset("tiny"), {dotted: value})


def test_whole_numbers_fit_where_fractions_are_wanted():
    assert override(preset("tiny"), {"solver.lr": 1}).solver.lr == 1.0


def test_a_run_may_be_resumed_with_another_budget_but_not_another_seed():
    config = preset("tiny")
    assert first_difference(config, override(config, {"iterations": 5, "workers": 3})) is None
    assert first_difference(config, override(config, {"seed": 5})) == "seed = 0, got 5"
    changed = override(config, {"solver.lr": 0.5})
    assert first_difference(config, changed) == "solver.lr = 0.002, got 0.5"


def test_a_released_preset_is_its_own_reference_and_others_list_what_they_change():
    for name in RELEASED:
        assert differences(preset(name)) == []
    assert reference_of(preset("tiny")) == "mpii_vgg_6stage"
    found = differences(preset("mpii_lsp_modern"))
    assert "solver.optimizer = adamw (release: caffe_sgd)" in found
    assert not any(line.startswith(("name", "solver.stepsize", "network")) for line in found)
    changed = override(preset("lsp_6stage"), {"solver.lr": 1e-4, "seed": 7})
    assert differences(changed) == ["solver.lr = 0.0001 (release: 8e-05)"]


def test_settings_that_do_nothing_are_no_difference_and_the_release_is_not_given_ours():
    found = differences(preset("lsp_6stage_minutes"))
    assert "solver.muon_lr = 0.02 (release: has none)" in found  # the default of a recipe without Muon too
    assert "solver.decay_share = 0.8 (release: has none)" in found
    assert "augment.fill = 0.8 (release: has none)" in found
    assert "solver.momentum = 0.95 (release: 0.9)" in found
    assert not any(line.startswith(("solver.stepsize", "augment.target_dist")) for line in found)
    assert differences(override(preset("lsp_6stage"), {"augment.fill": 0.5, "solver.muon_lr": 1.0})) == []
    smaller = override(preset("lsp_6stage"), {"augment.target_dist": 0.8})
    assert differences(smaller) == ["augment.target_dist = 0.8 (release: 1.171)"]


@pytest.mark.parametrize(
    ("name", "changes", "wanted"),
    [
        # a scale of 1 is a person of 200 px: 200 * 1.171 = 234 px, of 240 px 98 %, times 0.7 to 1.3
        (
            "lsp_6stage",
            {"crop": 240},
            "a standing person fills 98% of the crop's side, 68% to 127% between scale_min and scale_max: "
            "augment.method=exact makes them 234 px high whatever augment.crop is (240 px, the release's is "
            "368); augment.target_dist=0.764 keeps the share",
        ),
        ("lsp_6stage_modern", {"crop": 304}, "augment.method=fast makes them 234 px high"),
        ("lsp_6stage", {"crop": 312}, None),
        ("lsp_6stage", {"crop": 240, "target_dist": 0.764}, None),
        ("lsp_6stage", {"crop": 240, "method": "box"}, None),
        ("lsp_6stage", {"scale_max": 1.6}, "64% of the crop's side, 45% to 102%"),
        ("tiny", {"fill": 0.9}, "fills 90% of the crop's side, 76% to 103% between .*lower augment.fill"),
    ],
)
def test_a_crop_that_people_do_not_fit_into_is_said(name, changes, wanted):
    said = cut_off(replace(preset(name).augment, **changes))
    assert (said is None) == (wanted is None)
    if wanted is not None:
        assert said.startswith("people are cut off: ")
        assert re.search(wanted if ".*" in wanted else re.escape(wanted), said)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("true", True), ("null", None), (".5", 0.5), ("5.", 5.0), ("-1.e-3", -1e-3),
        ("True", True), ("False", False), ("None", None), ("a/03", "a/03"), ("03", "03"), ("1.2.3", "1.2.3"),
    ],
)  # fmt: skip
def test_a_value_is_json_or_as_python_writes_it(text, value):
    """`--set solver.lr=.001` wanted float and got '.001'."""
    name, found = assignment(f"solver.lr={text}")
    assert name == "solver.lr"
    assert (found, type(found)) == (value, type(value))
