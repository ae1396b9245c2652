"""Weights between formats: exact round trips, networks told by their shapes, checks that can fail."""

from __future__ import annotations

import dataclasses
import math
import resource
import signal

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from support import golden

from cpm_repro.caffe.caffemodel import write_caffemodel
from cpm_repro.caffe.convert import Conversion, Difference, compare, convert
from cpm_repro.caffe.weight_files import (
    Network,
    by_layer,
    identify,
    load_weights,
    read_weight_file,
    write_weight_file,
)
from cpm_repro.errors import EnvironmentFailure, UserError
from cpm_repro.inference.weights import load
from cpm_repro.model import build, checkpoint_file
from cpm_repro.model.checkpoint_file import CHECKPOINT_FORMAT

SMALL = Network("mpii_6stage", 2, 3, 0.0625)
SUFFIXES = (".caffemodel", ".safetensors", ".pt")


def small_weights(network: Network = SMALL, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    net = build(**dataclasses.asdict(network), generator=generator)
    return {
        key: value + 0.1 * torch.randn(value.shape, generator=generator)
        for key, value in net.state_dict().items()
    }


def assert_same(got, want):
    assert list(got) == list(want)
    for key, value in want.items():
        assert torch.equal(got[key], value), key


@pytest.mark.parametrize("source", SUFFIXES)
@pytest.mark.parametrize("target", SUFFIXES)
def test_every_pair_of_formats_is_exact(source, target, tmp_path):
    weights = small_weights()
    write_weight_file(tmp_path / f"a{source}", weights, SMALL)
    result = convert(tmp_path / f"a{source}", tmp_path / f"b{target}")
    assert result.network == SMALL
    assert_same(load_weights(tmp_path / f"b{target}"), weights)


@pytest.mark.parametrize("arch", ["mpii_6stage", "mpii_vgg_6stage", "person_4stage", "tiny"])
def test_check_runs_both_files(arch, tmp_path):
    network = Network(arch, 2, 1 if arch == "person_4stage" else 3, 0.0625)
    write_weight_file(tmp_path / "a.caffemodel", small_weights(network), network)
    result = convert(
        tmp_path / "a.caffemodel", tmp_path / "b.safetensors", **dataclasses.asdict(network), check=True
    )
    assert [row.layer for row in result.differences] == [
        layer.name for layer in network.describe().convolutions
    ]
    for row in result.differences:
        assert row.range > 0
        assert row.largest <= 1e-5 * row.range  # measured 0: the same kernels run on both sides
    assert f"{row.layer:<20} largest difference" in str(result)


def test_check_sees_a_changed_weight():
    weights = small_weights()
    changed = {key: value.clone() for key, value in weights.items()}
    changed["conv4_stage2.weight"][0, 0, 0, 0] += 1
    rows = compare(weights, changed, SMALL)
    first_bad = next(row.layer for row in rows if row.largest > 1e-3 * row.range)
    assert first_bad == "conv4_stage2"


def test_checkpoints_are_what_inference_reads(tmp_path):
    weights = small_weights()
    write_weight_file(tmp_path / "x.pt", weights, SMALL)
    values = checkpoint_file.read_checkpoint_file(tmp_path / "x.pt")
    network = values["config"].network
    assert (network.arch, network.stages, network.parts, network.width) == dataclasses.astuple(SMALL)[:4]
    assert_same(values["model"], weights)


def test_safetensors_carry_the_network(tmp_path):
    write_weight_file(tmp_path / "x.safetensors", small_weights(), SMALL)
    with safe_open(str(tmp_path / "x.safetensors"), "pt") as file:
        assert file.metadata() == {
            "format": "pt", "arch": "mpii_6stage", "stages": "2", "parts": "3", "width": "0.0625",
        }  # fmt: skip
    assert read_weight_file(tmp_path / "x.safetensors").network == SMALL


@pytest.mark.parametrize(
    "network",
    [
        Network("mpii_6stage", 3, 14, 0.125),
        Network("mpii_vgg_6stage", 1, 5, 0.5),
        Network("person_4stage", 4, 1, 0.125),
        Network("tiny", 3, 14, 0.25),
        Network("tiny", 3, 5, 0.25),  # a VGG network of that width has the same shapes, and other crops
        Network("mpii_vgg_6stage", 3, 21, 0.3),  # its first convolution alone has 19 of 64 channels: 0.297
        Network("mpii_6stage", 2, 14, 0.05),
        Network("person_4stage", 2, 1, 0.99),
        Network("tiny", 3, 14, 0.25, refine="9-9-3"),
        Network("tiny", 1, 14, 0.25, features="1"),
        Network("lsp_6stage", 4, 7, 0.1, features="3-7", refine="5"),
        Network("person_4stage", 4, 1, 0.125, features="5", refine="3-3-3-3-3-3"),
    ],
)
def test_networks_are_told_by_their_shapes(network):
    shapes = network.describe().parameter_shapes()
    weights = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    alike = "mpii_6stage" if network.arch == "lsp_6stage" else network.arch
    assert identify(weights) == dataclasses.replace(network, arch=alike)
    weights["extra.weight"] = torch.empty(1, device="meta")
    assert identify(weights) is None


def test_other_windows_are_no_network_of_ours():
    shapes = Network("tiny", 3, 14, 0.25).describe().parameter_shapes()
    weights = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    weights["Mconv3_stage2.weight"] = torch.empty(32, 32, 4, 4, device="meta")
    assert identify(weights) is None


def test_later_stages_of_other_kernels_are_not_left_out(tmp_path):
    """Their last layers have other names: read as if of the usual kernels, there seemed to be one stage."""
    net = build("tiny", parts=5, stages=4, width=0.1, refine="7-7-3").eval()
    torch.save(net.state_dict(), tmp_path / "own.pth")
    convert(tmp_path / "own.pth", tmp_path / "own.caffemodel", arch="tiny", check=True)
    data = torch.rand(1, 4, 64, 64) - 0.5
    for again in (load(tmp_path / "own.pth"), load(tmp_path / "own.caffemodel", arch="tiny")):
        assert len(again(data)) == 4
        assert torch.equal(again(data)[-1], net(data)[-1])


def test_unknown_networks_pass_through(tmp_path):
    sample = golden("caffemodel_sample") / "small_iter_3.caffemodel"
    result = convert(sample, tmp_path / "x.safetensors")
    assert result.network is None
    convert(tmp_path / "x.safetensors", tmp_path / "y.caffemodel")
    assert {k: v.tolist() for k, v in load_weights(tmp_path / "y.caffemodel").items()} == {
        k: v.tolist() for k, v in load_weights(sample).items()
    }
    with pytest.raises(UserError, match="a checkpoint needs arch="):
        convert(sample, tmp_path / "x.pt")
    with pytest.raises(UserError, match="to check weights of an unknown network"):
        convert(sample, tmp_path / "z.safetensors", check=True)
    assert not (tmp_path / "z.safetensors").exists()  # what is refused leaves nothing
    with pytest.raises(
        UserError, match=r"does not fit tiny: conv1_1.weight: wanted \[16, 3, 3, 3\], got nothing; "
    ):
        convert(sample, tmp_path / "x.pt", arch="tiny")


def test_layers_of_another_net_are_left_out(tmp_path):
    weights = small_weights()
    write_weight_file(tmp_path / "a.safetensors", weights | {"fc8.weight": torch.zeros(2, 2)}, None)
    result = convert(tmp_path / "a.safetensors", tmp_path / "b.pt", **dataclasses.asdict(SMALL))
    assert result.layers == len(by_layer(weights))
    assert_same(load_weights(tmp_path / "b.pt"), weights)


def test_all_misfits_are_listed(tmp_path):
    weights = small_weights()
    weights["conv1_stage1.weight"] = torch.zeros(1, 1, 1, 1)
    weights["conv7_stage1.bias"] = torch.zeros(9)
    write_weight_file(tmp_path / "a.safetensors", weights, None)
    with pytest.raises(
        UserError, match=r"conv1_stage1.weight: .*; conv7_stage1.bias: wanted \[4\], got \[9\]"
    ):
        convert(tmp_path / "a.safetensors", tmp_path / "b.pt", **dataclasses.asdict(SMALL))


def test_an_array_too_many_is_a_misfit_as_in_caffe(tmp_path):
    weights = dict(build("tiny").state_dict())
    weights["conv1_1.blob2"] = torch.zeros(3)
    write_caffemodel(tmp_path / "x.caffemodel", by_layer(weights))
    with pytest.raises(UserError, match=r"conv1_1\.blob2: wanted nothing, got \[3\]"):
        convert(tmp_path / "x.caffemodel", tmp_path / "x.pt", arch="tiny")


def test_layers_with_many_arrays_survive(tmp_path):
    arrays = [np.arange(3, dtype=np.float32) + i for i in range(3)]
    write_caffemodel(tmp_path / "a.caffemodel", {"bn": arrays})
    weights = load_weights(tmp_path / "a.caffemodel")
    assert list(weights) == ["bn.weight", "bn.bias", "bn.blob2"]
    convert(tmp_path / "a.caffemodel", tmp_path / "b.safetensors")
    convert(tmp_path / "b.safetensors", tmp_path / "c.caffemodel")
    assert_same(load_weights(tmp_path / "c.caffemodel"), weights)


def test_plain_state_dicts_are_read(tmp_path):
    weights = small_weights()
    torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "x.pth")
    read = read_weight_file(tmp_path / "x.pth")
    assert read.network == SMALL
    assert_same(read.weights, weights)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_state_dicts_of_wrapped_networks_are_read(tmp_path, prefix, suffix):
    weights = small_weights()
    wrapped = {prefix + key: value for key, value in weights.items()}
    path = tmp_path / f"x.{suffix}"
    save = torch.save if suffix == "pth" else save_file
    save(wrapped, path)
    read = read_weight_file(path)
    assert read.network == SMALL
    assert set(read.weights) == set(weights)
    assert_same({key: read.weights[key] for key in weights}, weights)  # safetensors sorts by name


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_nothing_is_executed(tmp_path, capsys):
    torch.save({"format": CHECKPOINT_FORMAT, "model": Evil()}, tmp_path / "x.pt")
    with pytest.raises(UserError, match="not an intact checkpoint"):
        load_weights(tmp_path / "x.pt")
    assert capsys.readouterr().out == ""


def test_bad_files_are_named(tmp_path):
    for name, raw, wanted in (
        ("x.safetensors", b"\xff" * 100, "not an intact safetensors"),
        ("x.pt", b"junk", "not an intact checkpoint"),
        ("x.caffemodel", b"\xff" * 100, "not a readable caffemodel"),
        ("x.zip", b"", r"wanted a file called \*\.caffemodel"),
    ):
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(UserError, match=wanted):
            load_weights(tmp_path / name)
    with pytest.raises(UserError, match="wanted a file of weights, got nothing there"):
        load_weights(tmp_path / "absent.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UserError, match="wanted a checkpoint of ours or a state dict"):
        load_weights(tmp_path / "list.pt")
    save_file(
        {"a.weight": torch.zeros(1)}, tmp_path / "meta.safetensors", {"arch": "unheard_of", "stages": "x"}
    )
    with pytest.raises(UserError, match="names no network"):
        load_weights(tmp_path / "meta.safetensors")
    save_file({"a.running": torch.zeros(1)}, tmp_path / "odd.safetensors")
    for target in ("odd.caffemodel", "same.safetensors"):
        words = r"odd.safetensors: wanted weights called <layer>.weight and <layer>.bias, got 'a.running'"
        with pytest.raises(UserError, match=words):
            convert(tmp_path / "odd.safetensors", tmp_path / target)
        assert not (tmp_path / target).exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_one_line_and_no_file(suffix, tmp_path):
    """RLIMIT_FSIZE makes writes fail as a full disk does; behind its first records torch.save hid it."""
    save_file(small_weights(), tmp_path / "x.safetensors")
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old_limit[1]))
    try:
        with pytest.raises(EnvironmentFailure, match=r"cannot write .*y\.\w+: File too large"):
            convert(tmp_path / "x.safetensors", tmp_path / f"y{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("kind", [torch.int8, torch.bool, torch.complex64])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_numbers_that_are_no_weights_are_refused(kind, suffix, tmp_path):
    """Quantised weights, say, mean nothing without their scales."""
    path = tmp_path / f"x{suffix}"
    weights = {key: (10 * value).to(kind) for key, value in small_weights().items()}
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    for use in (load, lambda path: convert(path, tmp_path / "y.caffemodel")):
        with pytest.raises(UserError, match=r"'\w+\.\w+' is not a floating-point array"):
            use(path)


def test_whole_numbers_beside_the_weights_are_let_be(tmp_path):
    """As BatchNorm's counter."""
    save_file({**small_weights(), "bn.num_batches_tracked": torch.tensor(3)}, tmp_path / "x.safetensors")
    assert load(tmp_path / "x.safetensors", arch="mpii_6stage").stages == 2


def test_architectures_that_look_alike_take_the_files_numbers(tmp_path):
    """Four stages of mpii_6stage's layers are four stages of lsp_6stage's, not six with two missing."""
    write_weight_file(tmp_path / "x.caffemodel", small_weights(), None)
    for extra in ({}, {"fc8.weight": torch.zeros(2, 2)}):
        write_weight_file(tmp_path / "x.safetensors", small_weights() | extra, None)
        result = convert(tmp_path / "x.safetensors", tmp_path / "y.caffemodel", arch="lsp_6stage")
        assert result.network == dataclasses.replace(SMALL, arch="lsp_6stage")
    fewer = convert(tmp_path / "x.caffemodel", tmp_path / "y.caffemodel", arch="lsp_6stage", stages=1)
    assert fewer.network.stages == 1
    assert not any("stage2" in layer for layer in by_layer(load_weights(tmp_path / "y.caffemodel")))
    with pytest.raises(UserError, match="wanted weights of tiny, got those of mpii_6stage"):
        convert(tmp_path / "x.caffemodel", tmp_path / "y.caffemodel", arch="tiny")


def test_other_kernels_go_through_every_format_that_says_them(tmp_path):
    network = dataclasses.replace(SMALL, refine="5-3")
    write_weight_file(tmp_path / "a.pt", small_weights(network), network)
    assert convert(tmp_path / "a.pt", tmp_path / "b.safetensors", check=True).network == network
    assert read_weight_file(tmp_path / "b.safetensors").network == network
    convert(tmp_path / "b.safetensors", tmp_path / "c.caffemodel")
    back = convert(tmp_path / "c.caffemodel", tmp_path / "d.pt", **dataclasses.asdict(network))
    assert back.network == network


def test_a_layer_whose_values_are_no_numbers_is_the_worst():
    rows = [
        Difference("conv1", 2e-7, 1.0),
        Difference("conv2", math.nan, math.nan),
        Difference("conv3", 0.5, 1.0),
    ]
    assert str(Conversion(None, 3, rows)).endswith("largest of all: nan in conv2")
