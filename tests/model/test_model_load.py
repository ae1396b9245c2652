"""Loading by layer name, and VGG-19's weights."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from cpm_repro.errors import UserError
from cpm_repro.model import build, initialise_from_vgg19, load_by_name
from cpm_repro.model.vgg_init import (
    ILSVRC_MEAN_BGR,
    TORCHVISION_LAYERS,
    TORCHVISION_MEAN_RGB,
    TORCHVISION_STD_RGB,
)


def blobs_of(net):
    """As a caffemodel reader gives them."""
    names = [layer.name for layer in net.description.convolutions]
    return {name: [p.detach().numpy().copy() for p in net.layer(name).parameters()] for name in names}


def states_equal(a, b):
    return all(torch.equal(value, b.state_dict()[key]) for key, value in a.state_dict().items())


@pytest.fixture
def pair():
    """Two networks of one shape and different weights."""
    torch.manual_seed(0)
    return build("tiny", width=0.05), build("tiny", width=0.05)


def test_blobs_and_state_dicts_load_alike(pair):
    source, target = pair
    report = load_by_name(target, blobs_of(source))
    assert states_equal(source, target)
    assert report.complete
    assert report.loaded == tuple(layer.name for layer in source.description.convolutions)
    other = build("tiny", width=0.05)
    assert load_by_name(other, source.state_dict()) == report
    assert states_equal(source, other)


def test_bias_may_come_before_weight(pair):
    source, target = pair
    load_by_name(target, dict(reversed(source.state_dict().items())))
    assert states_equal(source, target)


def test_other_dtypes_layouts_and_read_only_memory(pair, tmp_path):
    source, target = pair
    weights = blobs_of(source)
    weights["conv1_1"][0].tofile(tmp_path / "blob")
    mapped = np.memmap(tmp_path / "blob", dtype=np.float32, mode="r", shape=weights["conv1_1"][0].shape)
    weights["conv1_1"][0] = mapped
    weights["conv1_2"][0] = weights["conv1_2"][0].astype(np.float64)
    weights["conv2_1"][1] = weights["conv2_1"][1].reshape(1, 1, 1, -1)  # the older caffemodels' biases
    load_by_name(target.to(memory_format=torch.channels_last), weights)
    assert states_equal(source, target)
    half = build("tiny", width=0.05).bfloat16()
    load_by_name(half, weights)
    assert states_equal(source.bfloat16(), half)


def test_extra_layers_are_ignored_and_missing_ones_stay(pair):
    source, target = pair
    weights = blobs_of(source)
    kept = [p.clone() for p in target.Mconv7_stage3.parameters()]
    del weights["Mconv7_stage3"]
    weights |= {"fc8": [np.zeros((10, 4)), np.zeros(10)], "relu1_1": [], "label": []}
    report = load_by_name(target, weights)
    assert (report.missing, report.ignored, report.complete) == (("Mconv7_stage3",), ("fc8",), False)
    assert all(torch.equal(a, b) for a, b in zip(kept, target.Mconv7_stage3.parameters(), strict=True))
    assert torch.equal(target.conv1_1.weight, source.conv1_1.weight)
    text = str(report)
    assert "left at their filler: Mconv7_stage3" in text
    assert "ignored: fc8" in text


def test_every_layer_of_another_shape_is_listed_and_nothing_is_copied(pair):
    source, target = pair
    before = {key: value.clone() for key, value in target.state_dict().items()}
    weights = blobs_of(build("tiny", width=0.05, parts=9))
    with pytest.raises(UserError) as caught:
        load_by_name(target, weights, source="nine.caffemodel")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("nine.caffemodel do not fit tiny with 14 parts")
    for layer in ("conv5_2_CPM", "Mconv1_stage2", "Mconv7_stage2", "Mconv1_stage3", "Mconv7_stage3"):
        assert layer in message
    assert "conv5_2_CPM wanted 15x26x1x1 15, got 10x26x1x1 10" in message
    assert "conv1_1" not in message
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())

    report = load_by_name(target, weights, strict=False)  # fine-tuning
    assert {m.layer for m in report.mismatched} == {
        "conv5_2_CPM", "Mconv1_stage2", "Mconv7_stage2", "Mconv1_stage3", "Mconv7_stage3",
    }  # fmt: skip
    assert torch.equal(target.conv5_2_CPM.weight, before["conv5_2_CPM.weight"])
    np.testing.assert_array_equal(target.conv4_1.weight.detach(), weights["conv4_1"][0])
    assert "conv5_2_CPM wanted" in str(report)
    assert source.parts == target.parts


def test_a_layer_without_bias_or_with_a_third_blob_does_not_fit(pair):
    source, target = pair
    weights = blobs_of(source)
    weights["conv1_1"].pop()
    weights["conv1_2"].append(np.zeros(3))
    with pytest.raises(UserError, match=r"conv1_1 wanted 3x3x3x3 3, got 3x3x3x3; conv1_2 wanted"):
        load_by_name(target, weights)


def test_equal_counts_in_another_shape_do_not_fit(pair):
    """Caffe compares shapes, not sizes: a transposed weight is not a weight."""
    source, target = pair
    weights = blobs_of(source)
    weights["Mconv1_stage2"][0] = weights["Mconv1_stage2"][0].transpose(1, 0, 2, 3)
    with pytest.raises(UserError, match="Mconv1_stage2"):
        load_by_name(target, weights)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"conv1_1.scale": np.zeros(3)}, "conv1_1.scale"),
        ({"weight": np.zeros(3)}, "'weight'"),
        ({"conv1_1": [1.0, 2.0]}, "conv1_1"),
    ],
)
def test_what_are_no_weights_is_named(pair, weights, words):
    with pytest.raises(UserError, match=words):
        load_by_name(pair[1], weights)


VGG19 = {
    "conv1_1": (64, 3), "conv1_2": (64, 64), "conv2_1": (128, 64), "conv2_2": (128, 128),
    "conv3_1": (256, 128), "conv3_2": (256, 256), "conv3_3": (256, 256), "conv3_4": (256, 256),
    "conv4_1": (512, 256), "conv4_2": (512, 512), "conv4_3": (512, 512), "conv4_4": (512, 512),
    "conv5_1": (512, 512),
}  # fmt: skip


@pytest.fixture(scope="module")
def vgg():
    """Random weights in VGG-19's shapes, as an ILSVRC caffemodel has them."""
    rng = np.random.default_rng(0)
    return {
        name: [
            rng.standard_normal((*shape, 3, 3), dtype=np.float32) * 0.05,
            rng.standard_normal(shape[0]) * 0.1,
        ]
        for name, shape in VGG19.items()
    }


def torchvision_state(vgg):
    places = {name: place for place, name in TORCHVISION_LAYERS.items()}
    kinds = ("weight", "bias")
    return {
        f"features.{places[name]}.{kind}": torch.tensor(blob)
        for name, blobs in vgg.items()
        for kind, blob in zip(kinds, blobs, strict=True)
    } | {"classifier.0.weight": torch.zeros(4, 4), "classifier.0.bias": torch.zeros(4)}


def test_torchvision_positions_are_those_of_vgg19():
    """Convolution, ReLU, ... and a pooling after each block of 2, 2, 4, 4, 4."""
    place, wanted = 0, {}
    for block, count in enumerate((2, 2, 4, 4, 4), start=1):
        for i in range(1, count + 1):
            wanted[place] = f"conv{block}_{i}"
            place += 2
        place += 1
    assert wanted == TORCHVISION_LAYERS


@pytest.mark.parametrize("style", ["ilsvrc", "torchvision"])
@torch.no_grad()
def test_vgg19_sees_the_same_picture_through_our_input(vgg, style):
    """conv1_1 of our input equals VGG-19's conv1_1 of its own input, except in the outermost ring."""
    net = build("mpii_vgg_6stage", stages=1)
    report = initialise_from_vgg19(net, vgg if style == "ilsvrc" else torchvision_state(vgg))
    shared = [name for name in VGG19 if name not in ("conv4_3", "conv4_4", "conv5_1")]
    assert list(report.loaded) == shared
    assert set(report.missing) == {f"conv4_{i}_CPM" for i in range(3, 8)} | {"conv5_1_CPM", "conv5_2_CPM"}
    for name in shared[1:]:
        np.testing.assert_array_equal(net.layer(name).weight.numpy(), vgg[name][0])

    bgr = torch.randint(0, 256, (1, 3, 12, 10), generator=torch.Generator().manual_seed(1)).double()
    if style == "ilsvrc":
        seen = bgr - torch.tensor(ILSVRC_MEAN_BGR).view(3, 1, 1)
    else:
        rgb = bgr.flip(1)
        seen = (rgb / 255 - torch.tensor(TORCHVISION_MEAN_RGB).view(3, 1, 1)) / torch.tensor(
            TORCHVISION_STD_RGB
        ).view(3, 1, 1)
    weight, bias = (torch.tensor(blob).double() for blob in vgg["conv1_1"])
    wanted = functional.conv2d(seen, weight, bias, padding=1)
    got = net.conv1_1(((bgr - 128) / 256).float()).double()
    difference = (got - wanted).abs()
    assert difference[..., 1:-1, 1:-1].max() <= 1e-5 * wanted.abs().max()  # float32 weights; measured 2.5e-7
    assert (
        difference[..., 0, :].max() > 1e-3
    )  # the documented border: grey 128 outside instead of the mean colour


def test_vgg19_fills_the_person_net_further(vgg):
    net = build("person_4stage", stages=1)
    report = initialise_from_vgg19(net, vgg)
    assert list(report.loaded) == list(VGG19)
    assert set(report.missing) == {"conv5_2_CPM", "conv6_1_CPM", "conv6_2_CPM"}


def test_vgg19_refusals(vgg):
    with pytest.raises(UserError, match="does not begin with VGG-19"):
        initialise_from_vgg19(build("mpii_6stage", width=0.01), vgg)
    net = build("mpii_vgg_6stage", stages=1, width=0.05)
    with pytest.raises(UserError, match=r"conv1_1 wanted 3x3x3x3 3, got 64x3x3x3 64; conv1_2"):
        initialise_from_vgg19(net, vgg)
    with pytest.raises(UserError, match=r"not a whole VGG-19.*conv3_4"):
        initialise_from_vgg19(net, {name: blobs for name, blobs in vgg.items() if name != "conv3_4"})
    with pytest.raises(UserError, match="batch norm"):
        initialise_from_vgg19(net, {"features.1.running_mean": torch.zeros(64)})
