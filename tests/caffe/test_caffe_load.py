"""cpm.load from every form that weights come in, and how much memory large files take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import cpm_repro as cpm
from cpm_repro.caffe import wire
from cpm_repro.caffe.caffemodel import write_caffemodel
from cpm_repro.caffe.weight_files import Network, by_layer, write_weight_file

SMALL = Network("mpii_vgg_6stage", 2, 3, 0.0625)


def small_net() -> torch.nn.Module:
    torch.manual_seed(0)
    return cpm.build(SMALL.arch, stages=SMALL.stages, parts=SMALL.parts, width=SMALL.width)


def same(net, state) -> None:
    own = net.state_dict()
    assert list(own) == list(state)
    assert all(torch.equal(own[key], value) for key, value in state.items())


@pytest.mark.parametrize("name", ["x.caffemodel", "x.safetensors", "x.pt", "checkpoints/best.pt"])
def test_every_form_loads(name, tmp_path):
    state = small_net().state_dict()
    (tmp_path / "checkpoints").mkdir()
    write_weight_file(tmp_path / name, state, SMALL)
    net = cpm.load(tmp_path if "/" in name else tmp_path / name)
    assert (net.arch, net.stages, net.parts, net.width) == ("mpii_vgg_6stage", 2, 3, 0.0625)
    assert not net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    same(net, state)


def test_plain_state_dicts_of_other_dtypes_and_layouts(tmp_path):
    state = small_net().state_dict()
    half = {key: value.half() for key, value in state.items()}
    torch.save(half, tmp_path / "half.pth")
    net = cpm.load(tmp_path / "half.pth")
    same(net, {key: value.float() for key, value in half.items()})
    write_caffemodel(tmp_path / "x.caffemodel", by_layer({k: v.double() for k, v in state.items()}))
    assert {p.dtype for p in cpm.load(tmp_path / "x.caffemodel").parameters()} == {torch.float32}
    channels_last = {
        k: v.to(memory_format=torch.channels_last) if v.ndim == 4 else v for k, v in state.items()
    }
    torch.save({"state_dict": channels_last}, tmp_path / "x.ckpt")
    same(cpm.load(tmp_path / "x.ckpt"), state)


def test_arrays_that_share_memory_in_the_file_do_not_in_the_net(tmp_path):
    """A state dict of views into one buffer, and of one tensor under two names: nothing may be tied."""
    state = small_net().state_dict()
    flat = torch.cat([value.flatten() for value in state.values()])
    pieces = flat.split([value.numel() for value in state.values()])
    views = {key: piece.view(value.shape) for (key, value), piece in zip(state.items(), pieces, strict=True)}
    views["Mconv3_stage2.weight"] = views["Mconv2_stage2.weight"]
    torch.save(views, tmp_path / "x.pt")
    net = cpm.load(tmp_path / "x.pt")
    same(net, views)
    with torch.no_grad():
        net.Mconv2_stage2.weight.add_(1)
    assert torch.equal(net.Mconv3_stage2.weight, views["Mconv3_stage2.weight"])
    assert all(p.untyped_storage().nbytes() == p.nbytes for p in net.parameters())


def test_other_layers_in_a_safetensors_file_are_ignored(tmp_path):
    state = small_net().state_dict()
    save_file(state | {"fc8.weight": torch.zeros(3, 3)}, tmp_path / "x.safetensors")
    same(cpm.load(tmp_path / "x.safetensors", arch="mpii_vgg_6stage"), state)


CHILD = """
import json, sys, time
import cpm_repro as cpm
from cpm_repro.caffe.net import CaffeNet
from cpm_repro.inference.weights import load

def kilobytes(field):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field))

before = kilobytes("VmRSS")
result = cpm.caffe.read_caffemodel(sys.argv[2]) if sys.argv[1] == "read" else load(sys.argv[2])
print(json.dumps((kilobytes("VmHWM") - before) * 1024))
"""


def peak_share(way: str, path: Path) -> float:
    """Peak memory of reading ``path`` in a process of its own, as a share of the file."""
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    environment = os.environ | {"PYTHONPATH": str(Path(cpm.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, way, str(path)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout) / path.stat().st_size


@pytest.mark.parametrize("way", ["read", "load"])
def test_memory_of_a_released_model(way, tmp_path):
    """119 MB of the VGG net. Measured 1.04 and 1.33 of the file; asked for less than 2.2."""
    net = cpm.build("mpii_vgg_6stage")
    write_weight_file(tmp_path / "x.caffemodel", net.state_dict(), None)
    assert peak_share(way, tmp_path / "x.caffemodel") < 2.2


@pytest.mark.slow
def test_a_gigabyte_needs_one_gigabyte(tmp_path):
    """A sparse file of four arrays of 256 MB."""
    shape = wire.chunk(7, wire.chunk(1, wire.varint(1 << 26)))
    head = shape + wire.tag(5, wire.BYTES) + wire.varint(1 << 28)
    path = tmp_path / "x.caffemodel"
    with open(path, "wb") as file:
        for index in range(4):
            blob = wire.tag(7, wire.BYTES) + wire.varint(len(head) + (1 << 28)) + head
            name = wire.chunk(1, f"conv{index}".encode())
            size = len(name) + len(blob) + (1 << 28)
            file.write(wire.tag(100, wire.BYTES) + wire.varint(size) + name + blob)
            file.seek(1 << 28, os.SEEK_CUR)
        file.truncate()
    assert path.stat().st_size > 1 << 30
    assert peak_share("read", path) < 1.3  # measured 1.25: the arrays, and the map of the one being copied
    weights = cpm.caffe.read_caffemodel(path)
    assert [array.nbytes for arrays in weights.values() for array in arrays] == [1 << 28] * 4
    assert not np.any(weights["conv3"][0][-10:])
