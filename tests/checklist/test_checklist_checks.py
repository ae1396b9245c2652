"""Checks of many layers see each of them: one that is off is not reproduced."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import cpm_repro as cpm
from cpm_repro.checklist import checks_network, checks_scores, checks_training, load_claims
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


@pytest.mark.parametrize("name", ["net.grid.odd.mpii", "net.sizes.mpii"])
def test_one_network_of_several_that_is_off_differs(monkeypatch, name):
    """Claims about the 9x9 networks looked at one of the three."""
    claim = one_claim(name)
    assert judge(claim, measured(claim, Context()))[0]
    real = checks_network._run_narrow
    swapped = {"flic_4stage": "mpii_vgg_6stage"}
    monkeypatch.setattr(
        checks_network, "_run_narrow", lambda a, h, w: real(a, h + (a == "flic_4stage") * 7, w)
    )
    monkeypatch.setattr(checks_network, "describe", lambda a: cpm.model.describe(swapped.get(a, a)))
    assert not judge(claim, measured(claim, Context()))[0]


def test_predictions_of_other_parts_are_refused(tmp_path):
    (tmp_path / "published_predictions").mkdir()
    body = np.random.default_rng(0).uniform(0, 99, (3, 9, 2))
    file = tmp_path / "published_predictions" / "lsp_test_mpii_lsp.npz"
    np.savez(file, pred=body, gt=body, torso_box_wh=np.ones((3, 2)))
    with pytest.raises(UserError, match=r"lsp_test_mpii_lsp\.npz: wanted a row Kne"):
        checks_scores.score(Context(data=tmp_path), file.name, "Kne")


def one_claim(name):
    return next(claim for claim in load_claims() if claim.id == name)


@pytest.fixture
def forward(monkeypatch, tmp_path):
    """A golden file of flic_4stage that a narrow network of the same structure made, and how to write one."""
    net = cpm.build("flic_4stage", width=1 / 16).eval()
    monkeypatch.setattr(checks_network, "build", lambda _: net)
    checks_network._fill(net, 3)
    blobs = np.array(["a", "b", "c", "d"])

    def write(**others):
        content = {"seed": np.array(3), "belief_blobs": blobs}
        for case in (0, 1):
            data = np.full((1, 4, 16, 16), 0.1 * case, np.float32)
            with torch.no_grad():
                maps = net(torch.from_numpy(data))
            content[f"case{case}_input"] = data
            content |= {f"case{case}_belief_{blob}": m.numpy() for blob, m in zip(blobs, maps, strict=True)}
        content |= others
        np.savez(tmp_path / "forward_flic.npz", **{k: v for k, v in content.items() if v is not None})

    def check():
        claim = one_claim("net.flic.forward")
        return judge(claim, measured(claim, Context(golden=tmp_path)))[0]

    write()
    assert check()
    return write, check


def test_maps_that_are_not_numbers_are_not_the_original_s(forward):
    """Of several differences Python's max forgets a NaN that is not the first: it was "reproduced"."""
    write, check = forward
    write(case1_belief_c=np.full((1, 10, 2, 2), np.nan, np.float32))
    assert not check()


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"case0_input": None}, "wanted the array case0_input, got 11 others"),
        ({"belief_blobs": None}, "wanted the names belief_blobs, got 11 other arrays"),
        ({"belief_blobs": np.array(["a", "b"])}, "wanted belief_blobs as 4 names, got 2"),
        (
            {"case0_input": np.zeros((1, 3, 16, 16))},
            "case0_input as images x 4 x rows x columns, got 1 x 3 x",
        ),
        ({"case1_input": np.zeros((1, 4, 16, 21), np.float32)}, "case1_input is not flic_4stage's: .* width"),
        ({"case1_belief_d": np.zeros((1, 15, 2, 2))}, "case1_belief_d as 1 x 10 x 2 x 2, got 1 x 15 x"),
    ],
)
def test_a_golden_file_of_another_network_is_refused_in_one_line(forward, others, words):
    write, check = forward
    write(**others)
    with pytest.raises(UserError, match=rf"forward_flic\.npz: .*{words}"):
        check()


def fusion_file(folder):
    """Three cases of one scale that already has the image's size, and what must come of them."""
    content = {}
    for case in range(3):
        maps = torch.rand(1, 2, 4, 4, generator=torch.Generator().manual_seed(case))
        pads, sizes = np.zeros((1, 4), np.int64), np.full((1, 2), 32)
        content |= {f"case{case}_maps": maps.numpy(), f"case{case}_pads": pads, f"case{case}_sizes": sizes}
        content[f"case{case}_image_hw"] = np.array([32, 32])
        content[f"case{case}_fused"] = cpm.ops.fuse_multiscale(maps, pads, sizes, (32, 32)).numpy()
    np.savez(folder / "multiscale_fusion.npz", **content)


@pytest.mark.parametrize("off", [2e-5, np.nan])
def test_fused_maps_with_one_pixel_that_is_off_differ(tmp_path, monkeypatch, off):
    fusion_file(tmp_path)
    claim = one_claim("data.fusion")
    assert judge(claim, measured(claim, Context(golden=tmp_path)))[0]
    real, calls = checks_training.ops.fuse_multiscale, []

    def fuse(*arguments, **options):
        calls.append(1)
        fused = real(*arguments, **options)
        if len(calls) == 2:
            fused[0, 0, 0] += off
        return fused

    monkeypatch.setattr(checks_training.ops, "fuse_multiscale", fuse)
    assert not judge(claim, measured(claim, Context(golden=tmp_path)))[0]


@pytest.mark.parametrize(
    ("claim", "file", "words"),
    [
        ("data.fusion", "multiscale_fusion", "wanted the array case0_maps, got 2 others"),
        ("data.imresize", "matlab_imresize", "wanted pictures as uint8_scale... or uint8_size..., got none"),
    ],
)
def test_golden_files_of_something_else_are_refused_in_one_line(tmp_path, claim, file, words):
    """Nothing to compare was "0 pixels differ", reproduced."""
    np.savez(tmp_path / f"{file}.npz", uint8_in=np.zeros((4, 4, 3), np.uint8), other=np.zeros(3))
    with pytest.raises(UserError, match=f"{file}.npz: {words}"):
        measured(one_claim(claim), Context(golden=tmp_path))


def test_pixels_that_matlab_makes_otherwise_are_counted(tmp_path):
    """Over all sizes, by scale and by rows and columns."""
    picture = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    content = {
        "uint8_scale0.5": cpm.imresize(picture, 0.5),
        "uint8_size4x3": cpm.imresize(picture, size=(4, 3)),
    }
    content = {name: np.array(value) for name, value in content.items()}
    content["uint8_scale0.5"][0, 0, :2] ^= 1
    content["uint8_size4x3"][-1, -1, 2] ^= 1
    np.savez(tmp_path / "matlab_imresize.npz", uint8_in=picture, double_scale2=np.zeros(3), **content)
    assert measured(one_claim("data.imresize"), Context(golden=tmp_path)) == 3
