"""Exported files run elsewhere give the module's numbers, and the original's."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support import golden

from cpm_repro.caffe.convert import compare
from cpm_repro.caffe.weight_files import Network
from cpm_repro.errors import UserError
from cpm_repro.inference.decode import peaks as decode_peaks
from cpm_repro.inference.network_input import network_input
from cpm_repro.model import build
from cpm_repro.model.export import Keypoints, export_onnx, export_program

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
onnxruntime = pytest.importorskip("onnxruntime")

NETS = {"mpii": "mpii_6stage", "flic": "flic_4stage", "vgg": "mpii_vgg_6stage", "person": "person_4stage"}


def small_net(arch="tiny", **numbers):
    """A small net whose maps have values of order 1 (Caffe's own filler would leave next to nothing)."""
    torch.manual_seed(0)
    net = build(arch, **({"stages": 2, "parts": 3, "width": 0.125} | numbers))
    for name, parameter in net.named_parameters():
        std = (2 / parameter[0].numel()) ** 0.5 if name.endswith("weight") else 0.05
        torch.nn.init.normal_(parameter, 0, std)
    return net


def run(path, data):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"data": data.numpy()})


@pytest.mark.parametrize("arch", ["tiny", "mpii_6stage", "person_4stage"])
def test_onnx_of_any_batch(arch, tmp_path):
    net = small_net(arch).train()
    report = export_onnx(net, tmp_path / "x.onnx", size=(64, 72))
    assert net.training
    assert [row.name for row in report.outputs] == ["stage1", "stage2"]
    assert all(row.largest <= 1e-5 * row.range for row in report.outputs)  # measured 1.9e-6
    net.eval()
    for batch in (1, 3):
        data = torch.randn(batch, net.input_channels, 64, 72)
        for got, want in zip(run(tmp_path / "x.onnx", data), net(data), strict=True):
            error = np.abs(got - want.detach().numpy()).max()
            assert error <= 1e-5 * np.ptp(got)  # measured 1.4e-6
    assert "checked with onnxruntime" in str(report)


def test_peaks_inside_equal_the_decoder(tmp_path):
    net = small_net().eval()
    report = export_onnx(net, tmp_path / "x.onnx", size=(64, 72), peaks=True)
    assert [row.name for row in report.outputs] == ["xy", "score"]
    assert report.outputs[0].largest == 0
    tried = torch.rand((2, 4, 64, 72), generator=torch.Generator().manual_seed(0)) - 0.5
    with torch.no_grad():
        for row, values in zip(report.outputs, decode_peaks(net(tried)[-1]), strict=True):
            assert row.range == pytest.approx(float(values.max() - values.min()), rel=1e-5)
    data = torch.randn(5, 4, 64, 72)
    (got,) = run(tmp_path / "x.onnx", data)
    with torch.no_grad():
        xy, score = decode_peaks(net(data)[-1])
    np.testing.assert_array_equal(got[..., :2], xy.numpy())
    np.testing.assert_allclose(got[..., 2], score.numpy(), rtol=1e-5)


def test_peaks_are_where_a_bump_is():
    """A network that passes a known bump: the bump's cell centre comes out in input pixels."""
    net = small_net().eval()
    maps = torch.zeros(1, 4, 8, 9)
    maps[0, 1, 5, 2] = 0.75
    net.forward = lambda *_: [maps]
    keypoints = Keypoints(net, 1)(torch.zeros(1, 4, 64, 72))[0]
    # cell (5, 2) is centred on pixel (43.5, 19.5): of the two nearest pixels the first one is taken
    assert keypoints[0, 1, :2].tolist() == [19, 43]
    assert keypoints[0, 1, 2].item() == pytest.approx(0.75, rel=0.05)


def test_torch_export_of_any_batch(tmp_path):
    net = small_net().eval()
    report = export_program(net, tmp_path / "x.pt2", size=(64, 72), stages=1, notes={"parts": "a, b"})
    assert [row.largest for row in report.outputs] == [0]
    data = torch.randn(4, 4, 64, 72)
    kept = {"parts": ""}
    again = torch.export.load(tmp_path / "x.pt2", extra_files=kept).module()
    assert kept == {"parts": "a, b"}
    torch.testing.assert_close(again(data)[0], net(data, 1)[0])


def golden_net(name):
    stored = dict(np.load(golden(f"forward_{name}.npz")))
    net = build(NETS[name])
    with torch.no_grad():
        for index, layer in enumerate(net.description.convolutions):
            module = net.layer(layer.name)
            rng = np.random.RandomState(1000 + index + int(stored["seed"]) * 100_000)
            weight = rng.randn(*module.weight.shape) * np.sqrt(2 / module.weight[0].numel())
            module.weight.copy_(torch.from_numpy(weight.astype(np.float32)))
            module.bias.copy_(torch.from_numpy((rng.randn(len(module.bias)) * 0.05).astype(np.float32)))
    return stored, net


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, marks=[] if case == 1 else [pytest.mark.slow])
        for name in NETS
        for case in (0, 1)
    ],
)
def test_onnx_against_golden_forward(name, case, tmp_path):
    stored, net = golden_net(name)
    data = torch.from_numpy(stored[f"case{case}_input"])
    export_onnx(net, tmp_path / "x.onnx", size=tuple(data.shape[2:]))
    for blob, got in zip(stored["belief_blobs"], run(tmp_path / "x.onnx", data), strict=True):
        want = stored[f"case{case}_belief_{blob}"]
        assert np.abs(got - want).max() <= 1e-4 * np.ptp(want)  # worst measured 2.2e-6


def test_bad_wishes_are_named(tmp_path, monkeypatch):
    net = small_net()
    with pytest.raises(UserError, match=r"tiny wanted a height of 64 or 66, got 65"):
        export_onnx(net, tmp_path / "x.onnx", size=(65, 64))
    with pytest.raises(UserError, match="wanted 1 to 2 stages, got 3"):
        export_program(net, tmp_path / "x.pt2", size=(64, 64), stages=3)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match="ONNX export needs the package onnxscript"):
        export_onnx(net, tmp_path / "x.onnx", size=(64, 64))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_an_export_too_large_to_be_tried_is_one_line_and_no_file(kind, tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB")

    export, target = {"onnx": export_onnx, "pt2": export_program}[kind], tmp_path / f"x.{kind}"
    words = r"a trial of 2 x 4 x 1000000 x 1000000 does not fit into memory \(tried to allocate \d+ bytes\): "
    with pytest.raises(UserError, match=words):
        export(small_net(), target, size=(1_000_000, 1_000_000))
    monkeypatch.setattr("cpm_repro.model.export._parity", full)
    with pytest.raises(UserError, match=r"a trial of 2 x 4 x 64 x 64 does not fit into memory"):
        export(small_net(), target, size=(64, 64))
    assert not list(tmp_path.iterdir())


def test_an_exported_file_names_its_parts_and_its_input(tmp_path):
    from cpm_repro.inference.export import export_weights
    from cpm_repro.inference.weights import BUNDLED
    from cpm_repro.skeleton import CPM14

    export_weights(BUNDLED, tmp_path / "x.onnx", stages=1, peaks=True)
    kept = onnxruntime.InferenceSession(tmp_path / "x.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(kept["parts"]) == list(CPM14.parts)
    assert kept["input"].startswith(
        "B, G, R as pixel / 256 - 0.5, then exp(-d^2 / (2 s^2)), 0 where that is below"
    )
    assert kept["input"].endswith(
        "people as large as in training, the longer side of their joints' box of 102 px"
    )
    # what is written there is what the network is given here
    seen = network_input(torch.zeros((1, 120, 128, 3), dtype=torch.uint8), torch.tensor([[70.0, 50.0]]))
    y, x = np.mgrid[:120, :128]
    bump = np.exp(-((x - 70) ** 2 + (y - 50) ** 2) / (2 * (21 / 368 * 128) ** 2))
    assert (bump < 0.01).any()
    np.testing.assert_allclose(seen[0, 3].numpy(), np.where(bump < 0.01, 0, bump), atol=1e-6)


def test_an_exported_file_says_how_large_the_release_shows_people(tmp_path):
    from cpm_repro.config import AugmentConfig
    from cpm_repro.inference.export import export_weights
    from cpm_repro.model.about import About, about_to_json

    about = about_to_json(About(AugmentConfig(crop=64, method="fast", target_dist=0.2), "", None))
    save_file(small_net().state_dict(), tmp_path / "w.safetensors", metadata={"about": about})
    export_weights(tmp_path / "w.safetensors", tmp_path / "x.onnx", stages=1)
    kept = onnxruntime.InferenceSession(tmp_path / "x.onnx").get_modelmeta().custom_metadata_map
    assert kept["input"].endswith("people as large as in training, a height (200 x MPII's scale) of 40 px")


def test_a_default_of_float64_changes_no_trial(tmp_path):
    default = torch.get_default_dtype()
    net = small_net()
    torch.set_default_dtype(torch.float64)
    try:
        report = export_program(net, tmp_path / "x.pt2", size=(64, 64), stages=1)
        differences = compare(net.state_dict(), net.state_dict(), Network("tiny", 2, 3, 0.125))
    finally:
        torch.set_default_dtype(default)
    assert report.outputs[0].largest == 0
    assert max(row.largest / row.range for row in differences) < 1e-5


@pytest.mark.parametrize("export", [export_onnx, export_program])
def test_networks_of_another_type_are_named(export, tmp_path):
    with pytest.raises(
        TypeError, match=r"wanted float32 weights on the CPU, got torch\.bfloat16 on cpu in conv"
    ):
        export(small_net().bfloat16(), tmp_path / "x", size=(64, 64))


def test_an_export_is_reported_to_nobody(tmp_path):
    """onnxruntime kept a device id in the home folder and queued reports of the models that it ran."""
    quiet = ("ORT_DISABLE_TELEMETRY", "CI", "GITHUB_ACTIONS", "TF_BUILD", "XDG_CACHE_HOME")
    surroundings = {name: value for name, value in os.environ.items() if name not in quiet}
    surroundings["HOME"] = str(tmp_path / "home")
    (tmp_path / "home").mkdir()
    code = (
        "from cpm_repro.model import build; from cpm_repro.model.export import export_onnx; "
        "export_onnx(build('tiny', stages=1, parts=1, width=0.05), 'x.onnx', size=(16, 16))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=surroundings, check=True)
    assert (tmp_path / "x.onnx").exists()
    assert not list((tmp_path / "home").rglob("*deviceid*"))
