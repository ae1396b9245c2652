"""Checks of many layers see each of them: one that is off is not reproduced."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cpm_repro.checklist import checks_network, checks_scores, load_claims
from cpm_repro.checklist.claims import judge
from cpm_repro.checklist.context import Context
from cpm_repro.checklist.run import measured
from cpm_repro.errors import UserError
from cpm_repro.model.description import Filler


def changed(monkeypatch, layer: str, **values) -> None:
    """Every description has these values in the layer of that name, if it has one."""
    real = checks_network.describe

    def describe(*arguments, **options):
        net = real(*arguments, **options)
        layers = tuple(replace(one, **values) if one.name == layer else one for one in net.layers)
        return replace(net, layers=layers)

    monkeypatch.setattr(checks_network, "describe", describe)


@pytest.mark.parametrize(
    ("name", "layer", "values"),
    [
        ("net.filler", "conv3_stage1", {"weight_filler": Filler("gaussian", 0.02)}),
        ("net.filler", "Mconv7_stage4", {"weight_filler": Filler("constant")}),
        ("net.filler", "conv5_2_CPM", {"weight_filler": None}),
        ("net.inputs.shared", "conv1_stage5", {"bottom": ("pool3_stage1",)}),
        ("field.refinement", "Mconv2_stage4", {"kernel_size": 9}),
        ("train.lr_mult.stage1", "conv7_stage1", {"lr_mult": (1.0, 2.0)}),
        ("train.lr_mult.later", "conv1_stage6", {"lr_mult": (5.0, 10.0)}),
        ("train.lr_mult.later", "Mconv5_stage6", {"decay_mult": (1.0, 1.0)}),
        ("train.lr_mult.vgg.features", "conv4_7_CPM", {"lr_mult": (4.0, 8.0)}),
        ("train.lr_mult.vgg.later", "Mconv7_stage6", {"lr_mult": (1.0, 2.0)}),
    ],
)
def test_one_layer_that_is_off_differs(monkeypatch, name, layer, values):
    claim = next(claim for claim in load_claims() if claim.id == name)
    assert judge(claim, measured(claim, Context()))[0]
    changed(monkeypatch, layer, **values)
    assert not judge(claim, measured(claim, Context()))[0]


def test_one_stage_of_other_maps_differs(monkeypatch):
    claim = next(claim for claim in load_claims() if claim.id == "net.mpii.maps")
    real = checks_network._run_narrow

    def run(*arguments):
        first, *others = real(*arguments)
        return [first[:, :14], *others]

    monkeypatch.setattr(checks_network, "_run_narrow", run)
    assert not judge(claim, measured(claim, Context()))[0]


def test_predictions_of_other_parts_are_refused(tmp_path):
    (tmp_path / "published_predictions").mkdir()
    body = np.random.default_rng(0).uniform(0, 99, (3, 9, 2))
    file = tmp_path / "published_predictions" / "lsp_test_mpii_lsp.npz"
    np.savez(file, pred=body, gt=body, torso_box_wh=np.ones((3, 2)))
    with pytest.raises(UserError, match=r"lsp_test_mpii_lsp\.npz: wanted a row Kne"):
        checks_scores.score(Context(data=tmp_path), file.name, "Kne")
