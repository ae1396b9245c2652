"""Binary files of both generations: read exactly, written back exactly, hostile bytes refused."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
import torch
from support import golden

from cpm_repro.caffe import wire
from cpm_repro.caffe.caffemodel import read_caffemodel, read_model, write_caffemodel
from cpm_repro.caffe.schema import message_class, new
from cpm_repro.caffe.solverstate import read_solverstate, write_solverstate
from cpm_repro.errors import UserError

SAMPLE = "caffemodel_sample"


def stored(prefix: str) -> dict[str, list[np.ndarray]]:
    arrays = np.load(golden(SAMPLE) / "weights.npz")
    return {
        name: [arrays[f"{prefix}{name}_{kind}"] for kind in ("weight", "bias")] for name in ("conv1", "conv2")
    }


def assert_same(got, want):
    assert list(got) == list(want)
    for name in want:
        assert len(got[name]) == len(want[name])
        for a, b in zip(got[name], want[name], strict=True):
            assert a.dtype == b.dtype
            assert a.shape == b.shape
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["small_iter_3.caffemodel", "small_v1.caffemodel"])
def test_samples_of_both_generations_read_exactly(name):
    assert_same(read_caffemodel(golden(SAMPLE) / name), stored("iter3_"))


def test_old_generation_keeps_its_shapes_on_request():
    model = read_model(golden(SAMPLE) / "small_v1.caffemodel", keep_legacy_shapes=True)
    assert [(layer.name, layer.type, layer.bottoms, layer.tops) for layer in model.layers] == [
        ("conv1", "Convolution", ["data"], ["conv1"]),
        ("relu1", "ReLU", ["conv1"], ["conv1"]),
        ("pool1", "Pooling", ["conv1"], ["pool1"]),
        ("conv2", "Convolution", ["pool1"], ["conv2"]),
    ]
    assert [blob.shape for blob in model.layers[0].blobs] == [(8, 3, 5, 5), (1, 1, 1, 8)]


def test_layers_without_arrays_are_listed_by_read_model_only():
    path = golden(SAMPLE) / "small_iter_3.caffemodel"
    assert [layer.name for layer in read_model(path).layers] == [
        "data", "label", "conv1", "relu1", "pool1", "conv2", "loss",
    ]  # fmt: skip
    assert list(read_caffemodel(path)) == ["conv1", "conv2"]


def test_solverstate_sample_reads_exactly():
    state = read_solverstate(golden(SAMPLE) / "small_iter_3.solverstate")
    assert (state.iter, state.current_step, state.learned_net) == (3, 1, "small_iter_3.caffemodel")
    want = [array for arrays in stored("iter3_history_").values() for array in arrays]
    for got, array in zip(state.history, want, strict=True):
        np.testing.assert_array_equal(got, array)


def test_solverstate_survives_writing(tmp_path):
    state = read_solverstate(golden(SAMPLE) / "small_iter_3.solverstate")
    write_solverstate(tmp_path / "x", state.iter, state.history, state.learned_net, state.current_step)
    again = read_solverstate(tmp_path / "x")
    assert (again.iter, again.learned_net, again.current_step) == (3, "small_iter_3.caffemodel", 1)
    for a, b in zip(again.history, state.history, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("net", ["train.prototxt", "deploy_v1.prototxt", None])
def test_weights_survive_writing(net, tmp_path):
    weights = read_caffemodel(golden(SAMPLE) / "small_iter_3.caffemodel")
    write_caffemodel(tmp_path / "x.caffemodel", weights, net and golden(SAMPLE) / net)
    assert_same(read_caffemodel(tmp_path / "x.caffemodel"), weights)


def test_protobuf_itself_reads_what_we_write(tmp_path):
    """An independent reader: the protobuf package with the schema."""
    weights = {"a": [np.arange(6, dtype=np.float32).reshape(1, 2, 3)], "b": [np.array([0.5, -1e300])]}
    write_caffemodel(tmp_path / "x.caffemodel", weights, name="net")
    net = message_class("NetParameter")()
    net.ParseFromString((tmp_path / "x.caffemodel").read_bytes())
    assert net.name == "net"
    assert [layer.name for layer in net.layer] == ["a", "b"]
    assert list(net.layer[0].blobs[0].shape.dim) == [1, 2, 3]
    assert list(net.layer[0].blobs[0].data) == [0, 1, 2, 3, 4, 5]
    assert list(net.layer[1].blobs[0].double_data) == [0.5, -1e300]


def test_what_protobuf_writes_is_read(tmp_path):
    """Blobs in unusual but valid dress: 0 axes, no values, doubles, diffs, unpacked floats, split packs."""
    net = new("NetParameter")
    layer = net.layer.add(name="a", type="Thing")
    layer.blobs.add(data=[2.5]).shape.SetInParent()
    layer.blobs.add().shape.dim.extend([0, 3])
    layer.blobs.add(double_data=[1e300, 2], double_diff=[1, 2]).shape.dim.append(2)
    layer.blobs.add(data=[1, 2], diff=[3, 4], num=1, channels=1, height=1, width=2)
    unpacked = b"".join(wire.tag(5, wire.FIXED32) + struct.pack("<f", v) for v in range(70_000))
    split = (
        wire.chunk(5, struct.pack("<2f", 70_000, 70_001))
        + wire.tag(5, wire.FIXED32)
        + struct.pack("<f", 70_002)
    )
    blob = unpacked + split + wire.chunk(7, wire.tag(1, 0) + wire.varint(70_003))
    extra = wire.chunk(100, wire.chunk(1, b"b") + wire.chunk(7, blob) + wire.chunk(999, b"unknown"))
    (tmp_path / "x").write_bytes(net.SerializeToString() + extra)
    weights = read_caffemodel(tmp_path / "x")
    assert [blob.shape for blob in weights["a"]] == [(), (0, 3), (2,), (1, 1, 1, 2)]
    assert weights["a"][2].tolist() == [1e300, 2]
    assert weights["a"][3].tolist() == [[[[1, 2]]]]
    np.testing.assert_array_equal(weights["b"][0], np.arange(70_003, dtype=np.float32))


def test_tensors_are_written_too(tmp_path):
    half = torch.randn(3, 2).half()
    write_caffemodel(tmp_path / "x", {"a": [half, torch.randn(2, dtype=torch.float64)]})
    got = read_caffemodel(tmp_path / "x")["a"]
    np.testing.assert_array_equal(got[0], half.float().numpy())
    assert got[1].dtype == np.float64


def test_wrong_weights_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"layers that net 'small' does not have: other, third"):
        write_caffemodel(
            tmp_path / "x",
            {"other": [np.zeros(1, np.float32)], "third": []},
            golden(SAMPLE) / "deploy.prototxt",
        )
    with pytest.raises(TypeError, match="a, blob 0: wanted a float array, got int64"):
        write_caffemodel(tmp_path / "x", {"a": [np.zeros(1, np.int64)]})
    for dtype in (torch.int64, torch.bool, torch.complex64):
        with pytest.raises(TypeError, match=f"a, blob 0: wanted a float tensor, got {dtype}"):
            write_caffemodel(tmp_path / "x", {"a": [torch.zeros(1, dtype=dtype)]})
    assert not (tmp_path / "x").exists()


def layer_bytes(blob: bytes) -> bytes:
    return wire.chunk(100, wire.chunk(1, b"conv") + wire.chunk(7, blob))


def shape(*dims: int) -> bytes:
    return wire.chunk(7, wire.chunk(1, b"".join(map(wire.varint, dims))))


HOSTILE = {
    "length past the end": (
        wire.tag(100, 2) + wire.varint(1 << 40) + b"x",
        "claims 1099511627776 bytes, 1 are left",
    ),
    "inner length past its layer": (
        wire.chunk(100, wire.tag(7, 2) + wire.varint(50)) + b"\0" * 60,
        "claims 50 bytes, 0 are left",
    ),
    "product mismatch": (layer_bytes(wire.chunk(5, b"\0" * 12) + shape(2, 2)), "does not fit its 3 values"),
    "gigabyte claim": (layer_bytes(shape(1 << 30, 64)), "does not fit its 0 values"),
    "overflowing product": (
        layer_bytes(wire.chunk(5, b"\0" * 4) + shape(1 << 16, 1 << 16, 1 << 16, 1 << 16)),
        "does not fit its 1 values",
    ),
    "overflowing dimension": (layer_bytes(shape(1 << 40)), "outside of 0"),
    "negative dimension": (layer_bytes(shape(-1, -1) + wire.chunk(5, b"\0" * 4)), "outside of 0"),
    "negative legacy dimension": (
        layer_bytes(wire.tag(1, 0) + wire.varint(-5) + wire.chunk(5, b"\0" * 4)),
        "outside of 0",
    ),
    "no shape": (layer_bytes(wire.chunk(5, b"\0" * 8)), "does not fit its 2 values"),
    "many axes": (layer_bytes(shape(*[1] * 100_000)), "more than 32 axes"),
    "ragged floats": (layer_bytes(wire.chunk(5, b"\0" * 7)), "no multiple of 4"),
    "data as a number": (layer_bytes(wire.tag(5, 0) + b"\1"), "wire type 0"),
    "endless varint": (b"\xff" * 40, "more than ten bytes"),
    "group": (wire.tag(100, 3) + b"\0" * 8, "wire type 3"),
    "field zero": (b"\x02\x00" * 4, "field number 0"),
    "bad name": (wire.chunk(100, wire.chunk(1, b"\xff\xfe")), "not UTF-8"),
    "layer as a number": (wire.tag(100, 0) + b"\1", "wire type 0"),
    "many blobs": (wire.chunk(100, wire.chunk(7, shape(0)) * 1000), "more than 256"),
    "same name twice": (layer_bytes(shape(0)) * 2, "both called 'conv'"),
    "first generation": (
        wire.chunk(
            2, wire.chunk(1, wire.chunk(1, b"conv1") + wire.chunk(2, b"conv")) + wire.chunk(2, b"data")
        ),
        "Caffe's first format",
    ),
    "no layer": (wire.chunk(1, b"\x01\x02 only a name"), "without any layer"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_without_allocating(case, tmp_path):
    raw, wanted = HOSTILE[case]
    path = tmp_path / "x.caffemodel"
    path.write_bytes(raw)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=wanted) as caught:
            read_caffemodel(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(str(path))
    assert peak < 2_000_000


@pytest.mark.parametrize(
    "name", ["small_iter_3.caffemodel", "small_v1.caffemodel", "small_iter_3.solverstate"]
)
def test_every_truncation_is_refused_or_ends_between_fields(name, tmp_path):
    """Cut after every 7th byte: an error, or (cut between two layers) a shorter list of intact arrays."""
    raw = (golden(SAMPLE) / name).read_bytes()
    path = tmp_path / name
    read = read_solverstate if name.endswith("state") else read_caffemodel
    refused = 0
    for length in range(0, len(raw), 7):
        path.write_bytes(raw[:length])
        try:
            read(path)
        except UserError:
            refused += 1
    assert refused > 0.97 * len(raw) / 7


def test_other_kinds_of_files_are_named(tmp_path):
    path = tmp_path / "x.caffemodel"
    for raw, wanted in (
        (b"", "empty"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"PK\x03\x04....", "zip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS pointer"),
        (b"<!DOCTYPE html>", "web page"),
        (b'name: "net"\nlayer { }', "prototxt"),
    ):
        path.write_bytes(raw)
        with pytest.raises(UserError, match=wanted):
            read_caffemodel(path)
    with pytest.raises(UserError, match="cannot read"):
        read_caffemodel(tmp_path / "absent")
    with pytest.raises(UserError, match="cannot read"):
        read_caffemodel(tmp_path)


def test_large_models_are_copied_once(tmp_path):
    """Python-side memory stays near the size of the arrays: nothing holds the file's bytes a second time."""
    values = np.arange(6_000_000, dtype=np.float32)
    write_caffemodel(tmp_path / "x", {"a": [values], "b": [values]})
    tracemalloc.start()
    try:
        weights = read_caffemodel(tmp_path / "x")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert weights["b"][0][-1] == 5_999_999
    assert weights["a"][0].flags.aligned
    assert weights["a"][0].flags.writeable
    assert peak < 1.1 * 2 * values.nbytes


def test_a_state_dict_is_no_list_of_arrays(tmp_path):
    """Each weight was taken apart into its rows, and written as so many blobs."""
    layer = torch.nn.Conv2d(3, 4, 1)
    for weights in ({"conv.weight": layer.weight}, {"conv": np.zeros((4, 3), np.float32)}):
        with pytest.raises(TypeError, match=r"wanted a list of arrays for layer 'conv.* state dict"):
            write_caffemodel(tmp_path / "x.caffemodel", weights)
    assert not list(tmp_path.iterdir())
