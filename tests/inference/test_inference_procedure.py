"""The release's test procedure: step by step by hand in float64, against the golden fusion, and its rules."""

import math
import warnings
from functools import partial

import cv2
import numpy as np
import pytest
import release_by_hand as by_hand
import torch
from random_networks import random_net
from support import data_root, golden
from tf32_settings import tf32_allowed, tf32_flags

from cpm_repro import build
from cpm_repro.device import float32_products
from cpm_repro.errors import UserError
from cpm_repro.inference import procedure as room
from cpm_repro.inference.procedure import (
    MULTIPLIERS,
    BenchmarkProcedure,
    box_place,
    lsp_place,
    person_scale,
)

PHOTOGRAPHS = {
    "lsp": ("samples", "im1630.jpg"),
    "five people": ("samples", "frame0181.png"),
    "tennis": ("samples", "roger.png"),
    "mpii": ("mpii_sample", "images", "060754485.jpg"),
}


def photograph(name):
    image = cv2.imread(str(data_root(*PHOTOGRAPHS[name])))
    assert image is not None
    return image


def evaluated_by_hand(net, image, center, scale0, multipliers, boxes):
    layers = [layer.to_dict() for layer in net.description]
    weights = {name: value.detach().double().numpy() for name, value in net.named_parameters()}
    one_based = tuple(value + 1 for value in center)
    output = net.output_layers[-1]
    return by_hand.procedure(image, one_based, scale0, layers, weights, output, multipliers, boxes)


def hold_against_hand(net, image, center, scale0, multipliers=MULTIPLIERS):
    """Maps within 1e-5 and the same peaks."""
    procedure = BenchmarkProcedure(net)
    boxes = procedure.views(image, center, scale0, multipliers).crops.numpy()
    expected = evaluated_by_hand(net, image, center, scale0, multipliers, boxes)
    maps = procedure.belief_maps(image, center, scale0, multipliers).numpy()
    estimate = procedure(image, center, scale0, multipliers)
    assert maps.shape == expected.shape == (net.parts + 1, *image.shape[:2])
    assert np.abs(maps - expected).max() <= 1e-5
    assert np.ptp(expected[:-1], axis=(1, 2)).max() > 0.1  # the maps say something
    assert np.array_equal(estimate.keypoints, by_hand.first_peaks(expected)[:-1])
    assert np.abs(estimate.scores - expected[:-1].max(axis=(1, 2))).max() <= 1e-5


def test_by_hand_fusion_is_the_golden_one():
    with np.load(golden("multiscale_fusion.npz")) as file:
        for case in range(3):
            maps, pads, sizes, size, place, fused = (
                file[f"case{case}_{name}"]
                for name in ("maps", "pads", "sizes", "image_hw", "scale0_center", "fused")
            )
            assert np.abs(by_hand.fuse(maps, pads, sizes, tuple(size)) - fused).max() < 1e-6
            image = np.zeros((*size, 3), np.uint8)
            for multiplier, pad, scaled in zip(MULTIPLIERS, pads, sizes, strict=True):
                _, own_pad, own_size = by_hand.padded(image, place[1:], place[0] * multiplier)
                assert (own_pad, own_size) == (pad.tolist(), scaled.tolist())


def test_pads_and_sizes_are_the_golden_ones():
    procedure = BenchmarkProcedure(random_net("tiny", 0))
    with np.load(golden("multiscale_fusion.npz")) as file:
        for case in range(3):
            scale0, x, y = file[f"case{case}_scale0_center"]
            image = np.zeros((*file[f"case{case}_image_hw"], 3), np.uint8)
            views = procedure.views(image, (x - 1, y - 1), scale0)
            assert np.array_equal(views.pads, file[f"case{case}_pads"])
            assert np.array_equal(views.sizes, file[f"case{case}_sizes"])


def test_lsp_photograph_at_seven_scales():
    image = photograph("lsp")
    hold_against_hand(random_net("mpii_vgg_6stage", 1), image, *lsp_place(image.shape[:2]))


def test_the_9x9_network():
    image = photograph("lsp")
    net = random_net("flic_4stage", 2, width=0.03)
    hold_against_hand(net, image, *lsp_place(image.shape[:2]), multipliers=(0.7, 1.0, 1.3))


def test_mpii_person_who_is_one_of_a_large_photograph():
    image = photograph("mpii")
    hold_against_hand(
        random_net("mpii_vgg_6stage", 3, width=0.03), image, (700.0, 350.0), person_scale(3.1), (0.7, 1.2)
    )


@pytest.mark.parametrize(
    ("name", "center"), [("five people", (4.0, 180.0)), ("tennis", (10.0, 5.0)), ("lsp", (-30.0, 200.0))]
)
def test_people_cut_by_the_border(name, center):
    image = photograph(name)
    scale0 = 1.3 * 368 / max(image.shape[:2])
    hold_against_hand(
        random_net("mpii_vgg_6stage", 4), image, center, scale0, (0.8, 1.1) if name == "lsp" else (1.1,)
    )


@pytest.mark.parametrize(("height", "width"), [(3, 2), (9, 31), (24, 5)])
def test_tiny_images(height, width):
    whole = photograph("tennis")
    image = np.ascontiguousarray(whole[200 : 200 + height, 150 : 150 + width])
    net = random_net("mpii_vgg_6stage", 5)
    hold_against_hand(net, image, *lsp_place(image.shape[:2]), multipliers=(0.7, 1.3))


@pytest.mark.parametrize("scale", [1.1, 0.77, 0.5])
def test_scales_that_are_simple_fractions(scale):
    """Many pixels then lie half-way between two levels; all others are equal."""
    image = photograph("five people")
    views = BenchmarkProcedure(random_net("tiny", 0)).views(image, (300.0, 170.0), scale, (1.0,))
    by_hand.box_like(views.crops[0].numpy(), image, (301.0, 171.0), scale)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["mpii_6stage", "mpii_vgg_6stage"])
def test_released_networks_in_full_width(arch):
    """All stages and channels, He-normal weights as the golden files have; one person, one scale."""
    net = random_net(arch, 6, parts=14, stages=6, width=1.0)
    hold_against_hand(net, photograph("five people"), (300.0, 170.0), 1.1, (0.7,))


def test_scales_of_the_data_sets():
    assert person_scale(2.0) == 41 / 35 / 2
    center, scale0 = lsp_place((184, 100))
    assert center == (49, 91)  # 1-based 50, 92
    assert scale0 == 0.8 * 368 / 184
    for scale in (0.0, -1.0, float("nan")):
        with pytest.raises(UserError, match="scale: wanted a positive number"):
            person_scale(scale)


def test_scales_of_the_interactive_program():
    center, scales = box_place((100, 50, 180, 250), (400, 300))
    assert center == (140, 150)
    middle = 200 / 400 * 1.2
    first = math.log2(368 / (400 * 1.2 * middle))
    assert np.log2(scales) == pytest.approx([first, first + 1 / 6, first + 2 / 6, first + 3 / 6])
    assert first + 4 / 6 > math.log2(368 / (400 * 0.8 * middle))
    clipped, _ = box_place((-100, -50, 180, 250), (400, 300))
    assert clipped == (90, 125)
    assert box_place((100, 50, 400, 900), (400, 300))[0] == (199.5, 224.5)
    with pytest.raises(UserError, match="no area inside"):
        box_place((310, 10, 350, 40), (400, 300))


def test_of_equal_beliefs_the_benchmark_takes_the_first_column(monkeypatch):
    """One cell and its mirror image in the diagonal; the interactive program takes the first row."""
    maps = torch.zeros(1, 15, 46, 46)
    maps[:, :, 10, 30] = maps[:, :, 30, 10] = 1.0
    procedure = BenchmarkProcedure(random_net("tiny", 0))
    monkeypatch.setattr(procedure, "stage_maps", lambda _: maps)
    person = np.zeros((368, 368, 3), np.uint8), (183, 183), 1.0, (1.0,)
    x, y = procedure(*person).keypoints[0]
    assert (x // 8, y // 8) == (10, 30)
    assert procedure(*person, order="row").keypoints[0].tolist() == [y, x]
    views = procedure.views(*person)
    assert procedure.peaks(maps, views, (368, 368)).keypoints[0].tolist() == [x, y]


def test_a_smaller_box_is_the_same_procedure_in_proportion():
    """What a network of 128 px crops sees is a smaller picture of the same piece of the image."""
    net = random_net("tiny", 7)
    image = photograph("tennis")
    large = BenchmarkProcedure(net).views(image, (900.0, 500.0), 0.5, (1.0,))
    small = BenchmarkProcedure(net, box=128).views(image, (900.0, 500.0), 0.5, (1.0,))
    shrunk = cv2.resize(large.crops[0].numpy(), (128, 128), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(int) - small.crops[0].numpy()).mean() < 6


def test_an_image_that_would_fill_the_memory_is_refused():
    procedure = BenchmarkProcedure(random_net("tiny", 0))
    image = np.zeros((2000, 3000, 3), np.uint8)
    with pytest.raises(UserError, match="3000x2000 image 49200x32800: wanted at most 100000000 pixels, got"):
        procedure(image, (0.0, 0.0), person_scale(0.05))
    with pytest.raises(UserError, match="1x1 image enlarged at most 256 times"):
        procedure(image[:1, :1], *lsp_place((1, 1)))


def test_images_of_all_usual_kinds_are_those_of_8_bits():
    procedure = BenchmarkProcedure(random_net("tiny", 0), box=128)
    grey = np.random.default_rng(0).integers(0, 256, (60, 50), dtype=np.uint8)
    wanted = procedure(np.repeat(grey[:, :, None], 3, axis=2), (25, 30), 5.0, (1.0,)).scores
    still = grey.copy()
    still.setflags(write=False)  # as np.asarray of a PIL image is
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for image in (grey, still, grey.astype(np.uint16) * 257, np.dstack([grey] * 4)):
            np.testing.assert_array_equal(procedure(image, (25, 30), 5.0, (1.0,)).scores, wanted)
    for image in (grey / 255, grey.astype(np.float32), "photo.jpg"):  # the first was seen as black
        with pytest.raises(TypeError, match="image: wanted"):
            procedure(image, (25, 30), 5.0)


@pytest.mark.parametrize("center", [(math.nan, 30), (25,), 25])
def test_a_centre_that_is_none(center):
    with pytest.raises(UserError, match="center: wanted two finite numbers x y"):
        BenchmarkProcedure(random_net("tiny", 0))(np.zeros((60, 50, 3), np.uint8), center, 5.0)


def test_no_scales_are_no_estimate():
    with pytest.raises(UserError, match="multipliers: wanted at least one scale, got none"):
        BenchmarkProcedure(random_net("tiny", 0))(np.zeros((60, 50, 3), np.uint8), (25, 30), 5.0, ())


def test_networks_that_do_not_fit():
    with pytest.raises(UserError, match="finds people, not parts"):
        BenchmarkProcedure(build("person_4stage", width=0.05))
    with pytest.raises(UserError, match="multiple of 8, got 130"):
        BenchmarkProcedure(random_net("tiny", 0), box=130)


def test_the_seven_scales_of_a_person_are_one_call_of_the_network(monkeypatch):
    procedure = BenchmarkProcedure(random_net("tiny", 0), box=128)
    shapes, forward = [], procedure.net.forward

    def counted(data, stages=None):
        shapes.append(tuple(data.shape))
        return forward(data, stages)

    monkeypatch.setattr(procedure.net, "forward", counted)
    procedure(photograph("lsp"), (60.0, 90.0), 1.1)
    assert shapes == [(7, 4, 128, 128)]


def test_a_gpus_convolutions_are_float32(monkeypatch):
    """TF32 moves the maps of six stages by 8e-4 of their range. The device is told that it is a GPU."""
    seen = set()
    as_on_a_gpu = partial(float32_products, torch.device("cuda"))
    monkeypatch.setattr(room, "float32_products", lambda _, tf32: as_on_a_gpu(tf32=tf32))
    net = random_net("tiny", 0)
    net.register_forward_hook(lambda *_: seen.add(tf32_flags()))
    procedure = BenchmarkProcedure(net, box=64, device="cpu")
    with tf32_allowed(True, True):
        procedure(np.zeros((90, 70, 3), np.uint8), (30, 40), 1.0)
        procedure.belief_maps(np.zeros((90, 70, 3), np.uint8), (30, 40), 1.0)
        assert tf32_flags() == (True, True)
    assert seen == {(False, False)}
