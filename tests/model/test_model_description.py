"""The layer lists against spec `networks.json`, and the modules against the layer lists."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from model_helpers import spec_networks

from cpm_repro.config import ARCHITECTURES
from cpm_repro.errors import UserError
from cpm_repro.model import build, describe, describe_training, measured_receptive_field

SPEC = spec_networks()


@pytest.mark.parametrize("arch", SPEC)
def test_layers_equal_the_spec_field_by_field(arch):
    net = describe(arch)
    assert [layer.to_dict() for layer in net] == SPEC[arch]["layers"]
    assert {"blob": net.input_blob, "shape": list(net.input_shape)} == SPEC[arch]["input"]


@pytest.mark.parametrize("arch", SPEC)
def test_belief_blobs_are_the_convolutions_without_relu(arch):
    layers = SPEC[arch]["layers"]
    rectified = {layer["top"][0] for layer in layers if layer["type"] == "ReLU"}
    wanted = [x["name"] for x in layers if x["type"] == "Convolution" and x["name"] not in rectified]
    assert list(describe(arch).belief_blobs) == wanted


def test_one_rule_makes_all_sizes():
    assert describe("flic_4stage", stages=6, parts=14).layers == describe("mpii_6stage").layers
    assert describe("lsp_6stage", stages=4, parts=9).layers == describe("flic_4stage").layers
    assert describe("tiny", stages=6, width=1.0).layers == describe("mpii_vgg_6stage").layers


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_fewer_stages_are_a_prefix(arch):
    whole = describe(arch).layers
    for stages in range(2, describe(arch).stages):
        part = describe(arch, stages=stages).layers
        assert part == whole[: len(part)]
        assert not any(f"_stage{stages + 1}" in layer.name for layer in part)
    one = describe(arch, stages=1).layers
    assert one == tuple(layer for layer in whole if layer.name != "pool_center_lower")[: len(one)]


@pytest.mark.parametrize(
    ("arch", "stages", "parts", "width"),
    [
        ("mpii_6stage", None, None, 0.1),
        ("lsp_6stage", 1, 3, 0.001),
        ("flic_4stage", 2, 1, 0.05),
        ("flic_4stage", 9, 21, 0.02),
        ("mpii_vgg_6stage", 5, 133, 0.05),
        ("person_4stage", None, None, 0.1),
        ("person_4stage", 1, 2, 0.07),
        ("tiny", None, None, None),
        ("tiny", 1, 16, 0.1),
    ],
)
def test_modules_have_the_described_parameters(arch, stages, parts, width):
    net = build(arch, stages=stages, parts=parts, width=width)
    described = describe(arch, stages, parts, width)
    assert {name: tuple(p.shape) for name, p in net.named_parameters()} == described.parameter_shapes()
    assert set(net.state_dict()) == set(described.parameter_shapes())
    poolings = {layer.name for layer in described if layer.type == "Pooling"}
    convolutions = {layer.name for layer in described.convolutions}
    assert {name for name, _ in net.named_children()} - {"drop1_stage1", "drop2_stage1"} == (
        poolings | convolutions
    )
    assert net.output_layers == described.belief_blobs


def test_widths_round_and_never_vanish():
    shapes = describe("tiny", width=0.25).parameter_shapes()
    assert shapes["conv1_1.weight"] == (16, 3, 3, 3)
    assert shapes["Mconv1_stage2.weight"] == (32, 15 + 32 + 1, 7, 7)
    assert shapes["Mconv7_stage3.weight"] == (15, 32, 1, 1)
    assert set(describe("tiny", width=1e-9).parameter_shapes()["conv4_1.weight"]) == {1, 3}
    assert describe("mpii_6stage", width=0.3).parameter_shapes()["conv4_stage1.bias"] == (round(32 * 0.3),)


@pytest.mark.parametrize("arch", SPEC)
def test_multipliers_reach_every_parameter(arch):
    net = build(arch, width=0.02)
    for layer in SPEC[arch]["layers"]:
        if layer["type"] == "Convolution":
            for i, kind in enumerate(("weight", "bias")):
                assert net.lr_mult(f"{layer['name']}.{kind}") == layer["lr_mult"][i]
                assert net.decay_mult(f"{layer['name']}.{kind}") == layer["decay_mult"][i]
    groups = net.parameter_groups()
    assert sum(len(group["params"]) for group in groups) == len(list(net.parameters()))
    by_id = {id(p): name for name, p in net.named_parameters()}
    for group in groups:
        for parameter in group["params"]:
            name = by_id[id(parameter)]
            assert (group["lr_mult"], group["decay_mult"]) == (net.lr_mult(name), net.decay_mult(name))
    with pytest.raises(KeyError):
        net.lr_mult("conv99.weight")


def test_an_own_head_and_an_own_parametrization_have_multipliers():
    net = build("lsp_6stage", width=0.02, stages=1)
    net.offsets = torch.nn.Conv2d(net.maps, 2 * net.parts, 1)
    torch.nn.utils.parametrizations.weight_norm(net.conv1_stage1)
    found = {
        id(parameter): (group["lr_mult"], group["decay_mult"])
        for group in net.parameter_groups()
        for parameter in group["params"]
    }
    named = {name: found[id(parameter)] for name, parameter in net.named_parameters()}
    assert named["offsets.weight"] == named["offsets.bias"] == (1, 1)
    assert named["conv1_stage1.parametrizations.weight.original0"] == named["conv2_stage1.weight"] == (5, 1)
    assert named["conv1_stage1.bias"] == (10, 0)


@pytest.mark.parametrize(
    "wrap",
    [
        torch.nn.utils.parametrizations.weight_norm,
        torch.nn.utils.parametrizations.spectral_norm,
        pytest.param(torch.nn.utils.weight_norm, marks=pytest.mark.filterwarnings("ignore::FutureWarning")),
        partial(torch.nn.utils.prune.l1_unstructured, name="weight", amount=0.5),
    ],
)
def test_arrays_that_torch_takes_apart_keep_their_multipliers(wrap):
    net = build("mpii_6stage", width=0.02)
    wrap(net.conv1_stage1)
    wrap(net.Mconv1_stage2)
    by_id = {id(p): group["lr_mult"] for group in net.parameter_groups() for p in group["params"]}
    wrapped = {name: by_id[id(p)] for name, p in net.named_parameters() if "bias" not in name}
    assert {value for name, value in wrapped.items() if name.startswith("conv1_stage1.")} == {5.0}
    assert {value for name, value in wrapped.items() if name.startswith("Mconv1_stage2.")} == {1.0}


def test_training_network_of_the_released_recipe():
    """Spec `training.md`: label slice, two dropouts, and the losses' labels."""
    net = describe_training("mpii_6stage")
    assert net.layer("label_lower").to_dict() == {
        "name": "label_lower", "type": "Slice", "bottom": ["label"],
        "top": ["label_lower", "label_1st_lower"], "axis": 1, "slice_point": 15,
    }  # fmt: skip
    names = [layer.name for layer in net]
    for drop, relu, blob in (
        ("drop1_stage1", "relu5_stage1", "conv5_stage1"),
        ("drop2_stage1", "relu6_stage1", "conv6_stage1"),
    ):
        assert names.index(drop) == names.index(relu) + 1
        layer = net.layer(drop)
        assert (layer.type, layer.bottom, layer.top, layer.dropout_ratio) == (
            "Dropout",
            (blob,),
            (blob,),
            0.5,
        )
    added = {"label_lower", "drop1_stage1", "drop2_stage1", *(f"loss_stage{t}" for t in range(1, 7))}
    assert [layer for layer in net if layer.name not in added] == list(describe("mpii_6stage"))


@pytest.mark.parametrize("arch", ["mpii_6stage", "flic_4stage", "mpii_vgg_6stage", "tiny"])
def test_stage_1_has_a_target_of_its_own(arch):
    """Other ports train every stage on one target; the release's stage 1 learns everybody in the crop."""
    net = describe_training(arch)
    for stage, blob in enumerate(net.belief_blobs, start=1):
        label = "label_1st_lower" if stage == 1 else "label_lower"
        loss = net.layer(f"loss_stage{stage}")
        assert (loss.type, loss.bottom) == ("EuclideanLoss", (blob, label))
    assert net.layer("label_lower").slice_point == net.maps


def test_person_net_trains_on_one_label():
    net = describe_training("person_4stage")
    labels = {layer.bottom[1] for layer in net if layer.type == "EuclideanLoss"}
    assert labels == {"label"}
    assert all(layer.name != "label_lower" for layer in net)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"arch": "mpii_6stages"}, "did you mean mpii_6stage"),
        ({"arch": "resnet"}, "person_4stage"),
        ({"arch": ["tiny"]}, "unknown architecture"),
        ({"arch": "tiny", "stages": 0}, "stages"),
        ({"arch": "tiny", "stages": True}, "stages"),
        ({"arch": "tiny", "features": 3}, "wanted features as 1 odd number up to 99 such as 3, got 3"),
        ({"arch": "tiny", "refine": [7, 7]}, r"wanted refine as odd numbers .*, got \[7, 7\]"),
        ({"arch": "tiny", "stages": 2.5}, "stages"),
        ({"arch": "tiny", "parts": -1}, "parts"),
        ({"arch": "tiny", "width": 0.0}, "width"),
        ({"arch": "tiny", "width": math.nan}, "width"),
        ({"arch": "tiny", "width": math.inf}, "width"),
    ],
)
def test_what_cannot_be_described_is_named(arguments, words):
    with pytest.raises(UserError, match=words):
        describe(**arguments)


def test_numbers_may_be_numpys():
    assert describe("tiny", np.int64(2), np.uint8(5), np.float32(0.5)) == describe("tiny", 2, 5, 0.5)


def test_other_kernels_are_other_networks_with_the_same_names():
    net = describe("tiny", stages=2, features="1", refine="9-3")
    sides = [net.layer(name).kernel_size for name in ("conv3_4", "conv4_1", "conv4_7_CPM", "Mconv1_stage2")]
    assert sides == [3, 1, 1, 9]
    assert net.belief_blobs[-1] == "Mconv4_stage2"
    module = build("flic_4stage", stages=2, width=0.05, features="3-7", refine="5")
    wanted = describe("flic_4stage", stages=2, width=0.05, features="3-7", refine="5").parameter_shapes()
    assert {name: tuple(p.shape) for name, p in module.named_parameters()} == wanted
    assert module(torch.zeros(1, 4, 64, 64))[-1].shape == (1, 10, 8, 8)
    measured = measured_receptive_field("tiny", stages=2, features="1", refine="9-3")
    assert measured["Mconv4_stage2"] == (52 + 80, 52 + 80)


@pytest.mark.parametrize("text", ["", "4", "7-", "7--7", "-3", "3-x", "101", "07", "7 7", "9" * 300])
def test_kernels_that_are_none_say_what_was_wanted(text):
    with pytest.raises(UserError, match="tiny: wanted refine as odd numbers"):
        describe("tiny", refine=text)
    with pytest.raises(UserError, match=r"wanted features as 2 odd numbers up to 99 such as 5-9, got '3'"):
        describe("mpii_6stage", features="3")
