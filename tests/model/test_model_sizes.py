"""Which inputs a network takes, and how it says no to the others."""

import json

import pytest
import torch
from model_helpers import SMALL
from support import golden

from cpm_repro.model import build, describe, output_sizes

NAMES = {"mpii": "mpii_6stage", "flic": "flic_4stage", "vgg": "mpii_vgg_6stage", "person": "person_4stage"}


def test_accepted_sizes_are_caffes():
    for key, sizes in json.loads(golden("accepted_sizes.json").read_text()).items():
        arch = next((arch for name, arch in NAMES.items() if name in key), key)
        net = build(arch, width=0.01)
        assert [n for n in range(96, 112) if net.accepts(n)] == sizes, key


@pytest.mark.parametrize("arch", SMALL)
@pytest.mark.parametrize("stages", [1, 2])
@torch.inference_mode()
def test_rule_equals_the_layer_list_and_the_forward_pass(arch, stages):
    net = build(arch, stages=stages, width=0.005).eval()
    last = net.output_layers[-1]
    for size in range(1, 34):
        try:
            cells = output_sizes(net.description, size, size)[last][1]
        except ValueError:
            cells = None
        assert net.accepts(size) == (cells is not None)
        data = torch.zeros(1, net.input_channels, size, size)
        if cells is None:
            with pytest.raises(ValueError, match="data"):
                net(data)
        else:
            assert net.map_size(size) == cells
            assert net(data)[-1].shape == (1, net.maps, cells, cells)
            assert net.nearest_sizes(size) == [size]
    assert net.accepts(net.min_size)
    assert not any(net.accepts(n) for n in range(net.min_size))


@pytest.mark.parametrize(
    ("arch", "size", "cells"),
    [
        ("mpii_6stage", (368, 368), (46, 46)),
        ("mpii_6stage", (121, 105), (15, 13)),
        ("mpii_vgg_6stage", (125, 99), (16, 13)),
        ("person_4stage", (376, 656), (47, 82)),
        ("tiny", (128, 128), (16, 16)),
    ],
)
def test_known_map_sizes(arch, size, cells):
    net = build(arch, width=0.01)
    assert (net.map_size(size[0]), net.map_size(size[1])) == cells


@pytest.mark.parametrize(
    ("arch", "shape", "words"),
    [
        ("mpii_6stage", (1, 4, 366, 368), r"height of 361 or 368 .*0 or 1 \(mod 8\).*got 366"),
        ("mpii_6stage", (1, 4, 368, 370), r"width of 369 or 376 .*got 370"),
        ("mpii_6stage", (1, 4, 4, 368), r"height of 8 .*got 4"),
        ("mpii_vgg_6stage", (1, 4, 97, 96), r"height of 96 or 98 .*1 \(mod 8\).*got 97"),
        ("mpii_6stage", (1, 3, 368, 368), r"wanted \(N, 4, H, W\).*got \(1, 3, 368, 368\)"),
        ("person_4stage", (1, 4, 64, 64), r"wanted \(N, 3, H, W\)"),
        ("person_4stage", (1, 3, 0, 64), "height of 1"),
        ("tiny", (4, 64, 64), r"wanted \(N, 4, H, W\).*got \(4, 64, 64\)"),
    ],
)
def test_wrong_shapes_name_what_is_wanted(arch, shape, words):
    with pytest.raises(ValueError, match=words):
        build(arch, width=0.01)(torch.zeros(shape))


def test_wrong_types_and_stages():
    net = build("tiny", width=0.01)
    with pytest.raises(TypeError, match=r"floating-point.*uint8"):
        net(torch.zeros(1, 4, 32, 32, dtype=torch.uint8))
    with pytest.raises(TypeError, match=r"torch\.Tensor, got list"):
        net([[1.0]])
    for stages in (0, 4, -1):
        with pytest.raises(ValueError, match=rf"stages: wanted 1\.\.3, got {stages}"):
            net(torch.zeros(1, 4, 32, 32), stages=stages)


def test_an_empty_batch_gives_empty_maps():
    maps = build("tiny", width=0.01)(torch.zeros(0, 4, 32, 40))
    assert [tuple(m.shape) for m in maps] == [(0, 15, 4, 5)] * 3


def test_attributes():
    net = build("tiny", parts=9)
    assert (net.arch, net.parts, net.maps, net.stages, net.width) == ("tiny", 9, 10, 3, 0.25)
    assert (net.stride, net.input_channels) == (8, 4)
    assert build("person_4stage", width=0.01).input_channels == 3
    assert describe("person_4stage").maps == 1
