"""fuse_multiscale and its peaks: golden arrays, the step-by-step chain, mistakes of callers."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from support import golden

from cpm_repro.ops import _checks, _reference_resize, fuse_multiscale, fuse_multiscale_peaks


def golden_case(number):
    arrays = np.load(golden("multiscale_fusion.npz"))
    maps, pads, sizes, image = (
        arrays[f"case{number}_{key}"] for key in ("maps", "pads", "sizes", "image_hw")
    )
    return (torch.tensor(maps), pads, sizes, image), torch.tensor(arrays[f"case{number}_fused"])


def geometry(image, scales, center, cells=(46, 46), stride=8):
    """Pads and sizes as the release makes them: the scaled centre in the middle of the box."""
    pads, sizes = [], []
    for scale in scales:
        size = [int(np.ceil(side * scale)) for side in image]
        middle = [int(np.floor(c * scale + 0.5)) for c in center]
        up, left = cells[0] * stride // 2 - middle[1], cells[1] * stride // 2 - middle[0]
        pads.append([up, left, cells[0] * stride - up - size[0], cells[1] * stride - left - size[1]])
        sizes.append(size)
    return pads, sizes


def case(seed, image, scales, center=None, cells=(46, 46), stride=8, channels=3):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(len(scales), channels, *cells, generator=generator)
    center = center or (image[1] / 2, image[0] / 2)
    return maps, *geometry(image, scales, center, cells, stride), image


CASES = {
    "enlarging": case(0, (120, 160), (0.4, 0.5, 0.7)),
    "shrinking": case(1, (40, 50), (3.1, 4.7)),
    "off the edge": case(2, (90, 70), (2.0, 3.0, 4.0), center=(2, 88)),
    "all outside": case(3, (30, 30), (1.0,), center=(900, 900)),
    "one pixel": case(4, (1, 1), (1.0, 5.0)),
    "odd cells": case(5, (33, 65), (0.9, 1.3), cells=(5, 9), stride=4),
    "one cell": case(6, (9, 12), (1.0,), cells=(1, 1)),
    "wide": case(7, (20, 400), (0.6, 0.8)),
}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_golden(backend, number):
    arguments, expected = golden_case(number)
    got = fuse_multiscale(*arguments, backend=backend)
    assert (got - expected).abs().max() <= 1e-6  # measured: CPU kernel 3.6e-7, reference 0


@pytest.mark.parametrize("mode", ["matlab", "opencv"])
@pytest.mark.parametrize("name", CASES)
def test_kernel_equals_the_step_by_step_chain(compiled, name, mode):
    maps, pads, sizes, image = CASES[name]
    stride = 4 if name == "odd cells" else 8
    weights = [k + 1 for k in range(len(pads))]
    options = {"mode": mode, "stride": stride, "weights": weights}
    got = fuse_multiscale(maps, pads, sizes, image, **options, backend=compiled)
    expected = fuse_multiscale(maps, pads, sizes, image, **options, backend="reference")
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-6)  # measured 6e-7


@pytest.mark.parametrize("order", ["column", "row"])
@pytest.mark.parametrize("name", CASES)
def test_peaks_are_the_argmax_of_the_full_maps(backend, name, order):
    maps, pads, sizes, image = CASES[name]
    stride = 4 if name == "odd cells" else 8
    full = fuse_multiscale(maps, pads, sizes, image, stride=stride, backend=backend)
    xy, score = fuse_multiscale_peaks(maps, pads, sizes, image, stride=stride, order=order, backend=backend)
    place, value = _reference_resize.first_peaks(full, order == "row")
    assert torch.equal(score, value)
    assert torch.equal(xy, place.float())


@pytest.mark.parametrize("seed", range(4))
def test_peaks_of_bumps_with_noise_and_negative_maps(compiled, seed):
    generator = torch.Generator().manual_seed(seed)
    grid = torch.arange(46.0)
    centers = torch.rand(6, 2, generator=generator) * 46
    bumps = torch.exp(
        -((grid[:, None] - centers[:, 1, None, None]) ** 2 + (grid - centers[:, 0, None, None]) ** 2) / 2
    )
    maps = bumps + 0.01 * torch.randn(7, 6, 46, 46, generator=generator)
    maps[:, 3] -= 2.0  # everything negative
    maps[:, 4] = 0.25  # everything equal: the tie rule decides
    image = (150, 210)
    pads, sizes = geometry(image, [0.7 + 0.1 * k for k in range(7)], (100, 70))
    full = fuse_multiscale(maps, pads, sizes, image, backend=compiled)
    for order in ("column", "row"):
        xy, score = fuse_multiscale_peaks(maps, pads, sizes, image, order=order, backend=compiled)
        place, value = _reference_resize.first_peaks(full, order == "row")
        assert torch.equal(score, value)
        assert torch.equal(xy, place.float())


@pytest.mark.parametrize("mode", ["matlab", "opencv"])
@pytest.mark.parametrize("kind", ["noise", "dips", "rough", "flat", "not a number"])
def test_peaks_of_maps_without_a_bump(compiled, kind, mode):
    # Where nothing stands out the bounds of tiles decide little: the search goes through strips.
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(3, 3, 46, 46, generator=generator)
        maps = 0.7 + 0.01 * noise
        if kind == "dips":
            maps -= 0.7 * bumps([(20.0, 21.0), (25.5, 14.0), (9.0, 30.0)], (46, 46), width=0.9)
        elif kind == "rough":
            maps = noise
        elif kind == "flat":
            maps = torch.full_like(maps, 0.7)
        elif kind == "not a number":
            maps[:, :, 20, 22] = torch.tensor([float("nan"), float("inf"), float("-inf")])
        image = (420, 568)
        pads, sizes = geometry(image, (0.45, 0.6, 0.9), center=(270 + 9 * seed, 200))
        full = fuse_multiscale(maps, pads, sizes, image, mode=mode, backend=compiled)
        row_major = seed % 2 == 1
        xy, score = fuse_multiscale_peaks(
            maps, pads, sizes, image, mode=mode, order="row" if row_major else "column", backend=compiled
        )
        place, value = _reference_resize.first_peaks(full, row_major)
        assert torch.equal(xy, place.float())
        assert torch.equal(score, value)


@pytest.mark.parametrize("subpixel", [False, True])
@pytest.mark.parametrize("order", ["column", "row"])
@pytest.mark.parametrize("background", [False, True])
def test_a_pixel_that_is_no_number_is_never_the_maximum(backend, background, order, subpixel):
    maps = bumps([(20.0, 21.0), (25.5, 14.0), (9.0, 30.0)], (46, 46)).repeat(3, 1, 1, 1)
    maps[1, 0, 3, 40] = float("nan")
    maps[:, 1] = float("nan")  # everywhere
    image = (330, 350)
    pads, sizes = geometry(image, (0.9, 1.0, 1.1), center=(175, 165))
    full = fuse_multiscale(maps, pads, sizes, image, background=background, backend=backend)
    assert 0 < full[0].isnan().float().mean() < 0.1
    options = {"background": background, "order": order, "subpixel": subpixel, "backend": backend}
    xy, score = fuse_multiscale_peaks(maps, pads, sizes, image, **options)
    assert xy[1].tolist() == [0.0, 0.0]
    assert score[1] == float("-inf")
    without, heights = fuse_multiscale_peaks(maps.nan_to_num(), pads, sizes, image, **options)
    for channel in (0, 2):  # what is not a number lies far from the maximum, or nowhere
        torch.testing.assert_close(xy[channel], without[channel], rtol=0, atol=0)
        torch.testing.assert_close(score[channel], heights[channel], rtol=0, atol=1e-6)


@pytest.mark.parametrize("height", [1024, 1025, 2060])
@pytest.mark.parametrize("kind", ["noise", "flat", "high at the end"])
def test_images_higher_than_a_tile_of_the_fusion(compiled, kind, height):
    generator = torch.Generator().manual_seed(height)
    maps = 0.7 + (kind != "flat") * 0.01 * torch.randn(2, 3, 33, 9, generator=generator)
    maps[:, :, -1] += kind == "high at the end"
    image, sizes = (height, 37), [[250, 60], [200, 72]]
    pads = [[8, 6, 6, 6], [30, 0, 34, 0]]
    full = fuse_multiscale(maps, pads, sizes, image, backend=compiled)
    expected = fuse_multiscale(maps, pads, sizes, image, backend="reference")
    torch.testing.assert_close(full, expected, rtol=0, atol=1e-5)
    for order in ("column", "row"):
        xy, score = fuse_multiscale_peaks(maps, pads, sizes, image, order=order, backend=compiled)
        place, value = _reference_resize.first_peaks(full, order == "row")
        assert torch.equal(xy, place.float())
        assert torch.equal(score, value)


def test_tie_rule(backend):
    maps = torch.zeros(1, 2, 4, 4)
    arguments = (maps, [[0, 0, 0, 0]], [[8, 8]], (8, 8))
    xy, _ = fuse_multiscale_peaks(*arguments, stride=2, background=False, backend=backend)
    assert xy.tolist() == [[0, 0], [0, 0]]
    maps[0, :, 0, 3] = maps[0, :, 3, 0] = 1.0  # right end of the first row, lower end of the first column
    xy, _ = fuse_multiscale_peaks(*arguments, stride=2, background=False, order="column", backend=backend)
    assert xy[0].tolist()[0] < 4
    xy, _ = fuse_multiscale_peaks(*arguments, stride=2, background=False, order="row", backend=backend)
    assert xy[0].tolist()[1] < 4


def test_what_the_input_did_not_cover(backend):
    maps = torch.full((1, 2, 4, 4), 0.5)
    full = fuse_multiscale(maps, [[-8, 0, -8, 0]], [[48, 32]], (48, 32), backend=backend)
    assert full[0, 0].abs().max() == 0
    assert full[1, 0].sub(1).abs().max() < 1e-6
    torch.testing.assert_close(full[:, 24], torch.full((2, 32), 0.5), rtol=0, atol=1e-6)
    plain = fuse_multiscale(maps, [[-8, 0, -8, 0]], [[48, 32]], (48, 32), background=False, backend=backend)
    assert plain[1, 0].abs().max() == 0


def test_many_people(backend):
    first, second = CASES["enlarging"], CASES["shrinking"]
    arguments = [list(pair) for pair in zip(first, second, strict=True)]
    fused = fuse_multiscale(*arguments, backend=backend)
    xy, score = fuse_multiscale_peaks(*arguments, backend=backend)
    for index, one in enumerate((first, second)):
        assert torch.equal(fused[index], fuse_multiscale(*one, backend=backend))
        alone = fuse_multiscale_peaks(*one, backend=backend)
        assert torch.equal(xy[index], alone[0])
        assert torch.equal(score[index], alone[1])
    assert fuse_multiscale([], [], [], (4, 4)) == []


def bumps(at, image, width=3.0):
    """Cells (1, C, h, w), one per pixel of ``image``, with one Gaussian per position x, y."""
    y, x = torch.meshgrid(torch.arange(float(image[0])), torch.arange(float(image[1])), indexing="ij")
    return torch.stack([torch.exp(-((x - a) ** 2 + (y - b) ** 2) / 2 / width**2) for a, b in at])[None]


def test_subpixel_finds_where_a_bump_stands(backend):
    at = [(10.3, 7.0), (4.0, 12.4), (15.25, 3.75), (8.0, 8.0)]
    maps = bumps(at, (20, 24))
    arguments = (maps, [[0, 0, 0, 0]], [[20, 24]], (20, 24))
    options = {"stride": 1, "background": False, "backend": backend}
    xy, score = fuse_multiscale_peaks(*arguments, **options, subpixel=True)
    plain, plain_score = fuse_multiscale_peaks(*arguments, **options)
    # A parabola through three samples of a Gaussian of sigma 3 errs by up to 0.02 pixels.
    torch.testing.assert_close(xy, torch.tensor(at), rtol=0, atol=0.02)
    assert torch.equal(plain, xy.round())
    assert torch.equal(score, plain_score)


def test_subpixel_stays_within_half_a_pixel_and_off_the_border(backend):
    maps = torch.zeros(1, 3, 6, 7)
    maps[0, 0, 0, 0] = maps[0, 1, 5, 6] = 1.0  # corners; the third channel is flat
    xy, _ = fuse_multiscale_peaks(
        maps, [[0, 0, 0, 0]], [[6, 7]], (6, 7), stride=1, background=False, subpixel=True, backend=backend
    )
    assert xy.tolist() == [[0, 0], [6, 5], [0, 0]]


@pytest.mark.parametrize("name", ["enlarging", "shrinking", "off the edge", "wide"])
def test_subpixel_kernel_equals_reference(compiled, name):
    maps, pads, sizes, image = CASES[name]
    pair = [
        fuse_multiscale_peaks(maps, pads, sizes, image, subpixel=True, backend=backend)[0]
        for backend in (compiled, "reference")
    ]
    whole = fuse_multiscale_peaks(maps, pads, sizes, image, backend=compiled)[0]
    torch.testing.assert_close(*pair, rtol=0, atol=2e-3)  # measured 3e-5
    assert (pair[0] - whole).abs().max() <= 0.5
    assert not torch.equal(pair[0], whole)


def test_writes_into_given_tensors_of_many_people(backend):
    pair = [CASES["enlarging"], CASES["shrinking"]]
    out = [torch.full((3, *one[3]), float("nan")) for one in pair]
    columns = [list(column) for column in zip(*pair, strict=True)]
    assert all(a is b for a, b in zip(fuse_multiscale(*columns, out=out, backend=backend), out, strict=True))
    for one, full in zip(pair, out, strict=True):
        assert torch.equal(full, fuse_multiscale(*one, backend=backend))


@pytest.mark.parametrize("mode", ["matlab", "opencv"])
def test_weights_choose_among_the_scales(backend, mode):
    maps, pads, sizes, image = CASES["enlarging"]
    options = {"mode": mode, "backend": backend}
    alone = [
        fuse_multiscale(maps[k : k + 1], pads[k : k + 1], sizes[k : k + 1], image, **options)
        for k in range(len(pads))
    ]
    mixed = fuse_multiscale(maps, pads, sizes, image, weights=(2, 0, 6), **options)
    torch.testing.assert_close(mixed, 0.25 * alone[0] + 0.75 * alone[2], rtol=0, atol=2e-6)
    one = fuse_multiscale(maps, pads, sizes, image, weights=torch.tensor([0.0, 5.0, 0.0]), **options)
    torch.testing.assert_close(one, alone[1], rtol=0, atol=2e-6)


def test_threads_do_not_change_the_bits(compiled):
    arguments, _ = golden_case(2)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = fuse_multiscale(*arguments, backend=compiled)
        torch.set_num_threads(3)
        together = fuse_multiscale(*arguments, backend=compiled)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(alone, together)


def test_opencv_mode_is_opencvs_one_step(backend):
    import cv2

    maps = torch.rand(1, 1, 12, 10, generator=torch.Generator().manual_seed(0))
    full = fuse_multiscale(
        maps, [[0, 0, 0, 0]], [[96, 80]], (96, 80), mode="opencv", background=False, backend=backend
    )
    expected = cv2.resize(maps[0, 0].numpy(), (80, 96), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(full[0].numpy(), expected, atol=2e-6)


MAPS, PADS, SIZES, IMAGE = torch.zeros(2, 3, 4, 4), [[0, 0, 0, 0]] * 2, [[32, 32]] * 2, (20, 20)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"maps": MAPS.numpy()}, TypeError, r"maps\[0\] must be a torch.Tensor, got ndarray"),
        ({"maps": MAPS.int()}, TypeError, "maps must be a floating-point tensor, got torch.int32"),
        (
            {"maps": MAPS[0]},
            ValueError,
            r"maps must have shape \(S, C, h, w\) with cells in it, got \(3, 4, 4\)",
        ),
        ({"maps": MAPS[:0], "pads": [], "sizes": []}, ValueError, "maps must hold 1 to 64 scales, got 0"),
        ({"pads": PADS[:1]}, ValueError, r"pads must have shape \(2, 4\), got \(1, 4\)"),
        ({"pads": [[0.5, 0, 0, 0]] * 2}, ValueError, "pads must hold whole numbers"),
        ({"pads": "up"}, TypeError, r"pads must be a \(2, 4\) table of whole numbers, got 'up'"),
        (
            {"pads": [[1, 0, 0, 0]] * 2},
            ValueError,
            r"pads\[0\] and sizes\[0\] must add up to \(32, 32\) input pixels, got \(33, 32\)",
        ),
        ({"sizes": [[0, 32], [32, 32]]}, ValueError, r"sizes\[0\] must be positive, got \(0, 32\)"),
        ({"image_hw": (0, 3)}, ValueError, r"image_hw must be \(height, width\) between 1"),
        ({"weights": [1.0]}, ValueError, r"weights must have one entry per scale \(2\), got 1"),
        ({"weights": [1.0, -1.0]}, ValueError, "weights must be finite, not negative and not all zero"),
        ({"mode": "cubic"}, ValueError, "mode must be 'matlab' or 'opencv', got 'cubic'"),
        ({"out": torch.zeros(3, 20, 19)}, ValueError, r"out must be \(3, 20, 20\) torch.float32 on cpu, got"),
        ({"stride": 0}, ValueError, "stride must be between 1 and 64, got 0"),
        ({"stride": 8.0}, TypeError, "stride must be a whole number, got float"),
        ({"backend": "cuda"}, ValueError, "backend 'cuda' needs cuda tensors, got cpu tensors"),
    ],
)
def test_mistakes_are_named(arguments, error, words):
    given = {"maps": MAPS, "pads": PADS, "sizes": SIZES, "image_hw": IMAGE, **arguments}
    if isinstance(given["maps"], np.ndarray):
        given["maps"] = [given["maps"][0]]
        given["pads"], given["sizes"] = [PADS], [SIZES]
    with pytest.raises(error, match=words):
        fuse_multiscale(**given)


def test_far_shrinking_is_refused():
    with pytest.raises(
        ValueError, match=r"sizes\[0\] must be at most 256 times image_hw \(1, 1\), got \(800, 800\)"
    ):
        fuse_multiscale(MAPS[:1], [[0, 0, -768, -768]], [[800, 800]], (1, 1))


def test_limits_are_the_headers():
    header = (Path(__file__).parents[2] / "csrc/math/fuse.h").read_text()
    assert int(re.search(r"kMaxScales = (\d+)", header)[1]) == _checks.MAX_SCALES
    assert int(re.search(r"kMaxStride = (\d+)", header)[1]) == _checks.MAX_STRIDE
    operators = (Path(__file__).parents[2] / "csrc/ops/fuse_multiscale.cpp").read_text()
    assert 1 << int(re.search(r"kMaxSide = 1 << (\d+);", operators)[1]) == _checks.MAX_SIDE


def test_writing_over_what_a_gradient_needs_is_noticed(backend):
    maps, place = torch.rand(1, 3, 4, 4), ([[0, 0, 0, 0]], [[32, 32]], (20, 30))
    full = fuse_multiscale(maps, *place, backend=backend)
    loss = (torch.ones_like(full, requires_grad=True) * full).sum()
    fuse_multiscale(2 * maps, *place, out=full, backend=backend)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
