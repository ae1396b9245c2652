"""Every study's verdict on scores whose answer is known: holds, does not, undecided, and too weak to say."""

import json
from dataclasses import replace

import pytest
from studies_support import material

from cpm_repro.config import preset
from cpm_repro.inference.weights import build_from
from cpm_repro.model import multiply_accumulates
from cpm_repro.studies.command import STUDIES
from cpm_repro.studies.plan import Material, described
from cpm_repro.studies.receptive_field import REFINE, field_of, measured_field, variants
from cpm_repro.studies.request import quick_base
from cpm_repro.studies.schemes import LABELS
from cpm_repro.studies.supervision import STAGES, WITH, WITHOUT
from cpm_repro.training.gradients import EDGES
from cpm_repro.training.schemes import stage_of


def verdicts(name, scores, tmp_path):
    found = STUDIES[name].analyse(material(STUDIES[name], scores, tmp_path))
    assert all(text.startswith("| ") for text in found.tables.values())
    return {verdict.claim: verdict for verdict in found.verdicts}


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("name", ["stages", "schemes", "precision", "receptive-field"])
def test_every_figure_is_drawn_as_png_and_svg(name, tmp_path):
    scores = {
        "stages": lambda: stage_scores(RISING, [50, 60, 65, 68, 70, 70.5]),
        "schemes": lambda: scheme_scores(70, 60, 68, 55),
        "precision": lambda: {"end-to-end": [[40, 50, 60 + seed] for seed in range(3)]},
        "receptive-field": lambda: field_scores(40, 60, 62, 63, 63, 63),
    }[name]()
    finding = STUDIES[name].analyse(material(STUDIES[name], scores, tmp_path))
    assert finding.figures
    for picture in finding.figures.values():
        assert picture.stat().st_size > 5000
        assert picture.with_suffix(".svg").exists()


def values(name, scores, tmp_path):
    return {claim: verdict.value for claim, verdict in verdicts(name, scores, tmp_path).items()}


def stage_scores(per_network, inside):
    """Last stages of networks of 1..5 stages, and every stage of the 6-stage one; three seeds a bit apart."""
    scores = {
        f"{n} stage" + "s" * (n > 1): [value + seed / 10 for seed in range(3)]
        for n, value in enumerate(per_network, start=1)
    }
    return scores | {"6 stages": [[value + seed / 10 for value in inside] for seed in range(3)]}


RISING = [50, 60, 65, 68, 70]


def test_stages_that_rise_and_level_off(tmp_path):
    found = values("stages", stage_scores(RISING, [50, 60, 65, 68, 70, 70.5]), tmp_path)
    assert set(found.values()) == {"holds"}


def test_stages_that_fall(tmp_path):
    found = values("stages", stage_scores(RISING[::-1], [60, 50, 45, 42, 41, 40]), tmp_path)
    assert found["study.spatial_model"] == "does not hold"
    assert found["study.stages"] == "does not hold"


def test_a_sixth_stage_that_adds_much_does_not_add_little(tmp_path):
    found = values("stages", stage_scores(RISING, [50, 60, 65, 68, 70, 75]), tmp_path)
    assert found["study.stages.diminishing"] == "does not hold"


def test_a_rise_with_a_step_down_is_undecided_and_says_so(tmp_path):
    found = verdicts("stages", stage_scores([50, 60, 58, 66, 70], [50, 60, 65, 68, 70, 70.5]), tmp_path)
    assert found["study.stages"].value == "undecided"
    assert "a step goes down" in found["study.stages"].reason


def test_networks_that_have_not_learned_decide_nothing(tmp_path):
    found = verdicts("stages", stage_scores([1, 3, 5, 7, 9], [1, 3, 5, 7, 9, 10]), tmp_path)
    assert {verdict.value for verdict in found.values()} == {"undecided"}
    assert "below the 15 %" in found["study.stages"].reason


def scheme_scores(i, ii, iii, iv):
    return {
        label: [value + seed / 10 for seed in range(3)]
        for label, value in zip(LABELS.values(), (i, ii, iii, iv), strict=True)
    }


def test_schemes_as_the_paper_has_them(tmp_path):
    assert set(values("schemes", scheme_scores(70, 60, 68, 55), tmp_path).values()) == {"holds"}


def test_schemes_otherwise(tmp_path):
    found = values("schemes", scheme_scores(70, 60, 62, 75), tmp_path)
    assert found["study.schemes.joint"] == "holds"
    assert found["study.schemes.recover"] == "does not hold"
    assert found["study.schemes.intermediate"] == "does not hold"


def test_without_a_gap_there_is_nothing_to_recover(tmp_path):
    found = verdicts("schemes", scheme_scores(60, 70, 70, 50), tmp_path)
    assert found["study.schemes.joint"].value == "does not hold"
    assert found["study.schemes.recover"].value == "undecided"
    assert "no gap" in found["study.schemes.recover"].reason


def test_precision(tmp_path):
    better = {"end-to-end": [[40, 50, 60 + seed / 10] for seed in range(3)]}
    assert values("precision", better, tmp_path) == {"study.precision": "holds"}
    worse = {"end-to-end": [[60, 50, 40 + seed / 10] for seed in range(3)]}
    assert values("precision", worse, tmp_path) == {"study.precision": "does not hold"}
    mixed = {"end-to-end": [[50, 50, 50 + step] for step in (-3, 1, 4)]}
    assert values("precision", mixed, tmp_path) == {"study.precision": "undecided"}


def field_scores(*per_variant):
    return {
        label: [[20, value + seed / 10] for seed in range(3)]
        for label, value in zip(REFINE, per_variant, strict=True)
    }


@pytest.mark.parametrize(
    ("scores", "wanted"),
    [
        (field_scores(40, 60, 62, 63, 63, 63), "holds"),
        (field_scores(60, 50, 50, 50, 50, 50), "does not hold"),  # does not rise
        (field_scores(40, 41, 50, 60, 70, 80), "does not hold"),  # does not saturate
    ],
)
def test_receptive_field(scores, wanted, tmp_path):
    assert values("receptive-field", scores, tmp_path) == {"study.receptive_field": wanted}


def with_gradients(tmp_path, factor):
    """Two runs a seed whose stage-1 gradients differ by ``factor`` and whose others are alike."""
    study = STUDIES["supervision"]
    scores = {WITH: [[50.0] * STAGES] * 3, WITHOUT: [[40.0] * STAGES] * 3}
    found = material(study, scores, tmp_path)
    stages = stage_of(build_from(found.runs[WITH][0].config.network))
    runs = {}
    for label, records in found.runs.items():
        runs[label] = []
        for seed, one in enumerate(records):
            folder = tmp_path / f"{label[:12]}-{seed}"
            folder.mkdir()
            with (folder / "gradients.jsonl").open("w") as file:
                for iteration in range(0, 12, 2):
                    layers = {}
                    for name, stage in stages.items():
                        early = stage == 1 and label == WITH
                        mean = 1e-3 * (factor * (1 + seed / 50) if early else 1.0)
                        counts = [0] * (len(EDGES) - 1)
                        counts[30] = 7
                        if name.endswith(".weight"):
                            layers[name[:-7]] = {
                                "mean": mean, "variance": mean**2 * (1 + iteration), "zero": 0.0,
                                "histogram": counts,
                            }  # fmt: skip
                    file.write(json.dumps({"iteration": iteration, "layers": layers}) + "\n")
            runs[label].append(replace(one, folder=folder))
    return study.analyse(Material(found.base, runs, tmp_path))


@pytest.mark.parametrize(("factor", "wanted"), [(5.0, "holds"), (1.1, "does not hold")])
def test_supervision(factor, wanted, tmp_path):
    finding = with_gradients(tmp_path, factor)
    (verdict,) = finding.verdicts
    assert verdict.value == wanted
    assert verdict.numbers["ratio"] == pytest.approx(factor, rel=0.05)
    assert verdict.numbers["control"] == pytest.approx(1.0)
    assert len(finding.figures) == 2


def cost(network, crop):
    return multiply_accumulates(described(network), crop, crop)


def test_the_fields_of_the_sweep_at_equal_cost():
    for base in (quick_base(), preset("lsp_6stage")):
        plan = variants(base)
        costs = [cost(variant.config.network, base.augment.crop) for variant in plan]
        assert max(costs) < 1.06 * min(costs)
        fields = [field_of(variant.config.network) for variant in plan]
        assert fields == sorted(fields)
        assert fields[0] <= 75
        assert fields[-1] >= 400
        assert [measured_field(v.config.network) for v in plan] == [(field, field) for field in fields]
