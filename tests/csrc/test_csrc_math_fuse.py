"""Resampling and the fusion's banded matrices in csrc/math against the rules in NumPy: no torch.

Each rule is held to its last bit where it has one, at the places where it turns: the tests of the operations
see whole maps within a tolerance. `tests/mutation` shows that faults in these headers are noticed.
"""

from __future__ import annotations

import ctypes
import math
from ctypes import c_double as D
from ctypes import c_float as F
from ctypes import c_int as I

import numpy as np
import pytest
from math_functions import call, imresize_matrix, ints, keys, pointer


def test_the_kernel(math_library):
    x = np.linspace(-2.5, 2.5, 1001)
    for a in (-0.5, -0.75):
        got = [call(math_library, "cubic_kernel", ctypes.c_double, D(value), D(a)) for value in x]
        np.testing.assert_allclose(got, keys(x, a), rtol=0, atol=1e-14)


@pytest.mark.parametrize("scale", [8.0, 4.0, 1.7, 1.2, 1.0, 0.96, 0.6, 0.25, 0.031])
def test_positions_and_weights_of_resampling(math_library, scale):
    stretch = min(scale, 1)
    taps = call(math_library, "taps_of", ctypes.c_int, D(scale))
    assert taps >= math.ceil(4 / stretch) + 2
    for i in range(60):
        u = (i + 1) / scale + 0.5 * (1 - 1 / scale) - 1
        at = call(math_library, "position", ctypes.c_double, D(scale), I(i))
        assert at == pytest.approx(u, abs=1e-9)
        first = call(math_library, "first_of", ctypes.c_double, D(scale), I(i))
        index = np.arange(first - 3, first + taps + 3)
        got = [call(math_library, "weight_of", ctypes.c_double, D(scale), I(i), D(value)) for value in index]
        np.testing.assert_allclose(got, stretch * keys(stretch * (u - index), -0.5), rtol=0, atol=1e-11)
        assert np.flatnonzero(np.abs(got) > 1e-9).min() >= 3, "every weight lies behind the first pixel"
        assert np.flatnonzero(np.abs(got) > 1e-9).max() < 3 + taps, "and among the pixels looked at"


def test_few_taps_are_looked_at(math_library):
    """As many as MATLAB looks at, no more: they cost time."""
    for scale, wanted in ((8.0, 6), (1.2, 6), (1.0, 6), (0.5, 10), (0.4, 12), (0.3, 16)):
        assert call(math_library, "taps_of", ctypes.c_int, D(scale)) == wanted


@pytest.mark.parametrize("length", [1, 2, 7])
def test_borders_are_mirrored_with_the_edge_repeated(math_library, length):
    mirror = [*range(length), *reversed(range(length))]
    for index in range(-5 * length, 5 * length):
        assert (
            call(math_library, "mirrored", ctypes.c_int, D(index), I(length)) == mirror[index % (2 * length)]
        )


def test_bytes_are_rounded_half_to_even_and_limited(math_library):
    values = np.array(
        [-1e9, -0.5, 0.4, 0.5, 1.5, 2.5, 253.5, 254.5, 254.6, 255.0, 255.4, 1e9, 77.3, 256, 300]
    )
    wanted = [0, 0, 0, 0, 2, 2, 254, 254, 255, 255, 255, 255, 77, 255, 255]
    size = len(values)
    bytes_, singles, doubles = np.empty(size, np.uint8), np.empty(size, np.float32), np.empty(size)
    call(math_library, "stored", None, *map(pointer, (values, bytes_, singles, doubles)), I(size))
    assert bytes_.tolist() == wanted
    assert np.array_equal(singles, values.astype(np.float32))
    assert np.array_equal(doubles, values)


class Chain(ctypes.Structure):
    """ChainAxis of csrc/math/fuse.h."""

    _fields_ = [(name, ctypes.c_int) for name in ("cells", "stride", "pad", "scaled", "image", "opencv")]


def release_chain(c):
    """The release's two steps and the cut between them as one (image, cells) matrix, and the cover."""
    enlarge = imresize_matrix(c.cells, c.cells * c.stride, c.stride)
    cut = np.zeros((c.scaled, c.cells * c.stride))
    for s in range(c.scaled):
        if 0 <= s + c.pad < c.cells * c.stride:
            cut[s, s + c.pad] = 1
    resample = imresize_matrix(c.scaled, c.image, c.image / c.scaled)
    return resample @ cut @ enlarge, resample @ cut.sum(1)


def opencv_chain(c):
    """One step with OpenCV's constant, edge cells repeated, straight from the cells to the image."""
    matrix, cover = np.zeros((c.image, c.cells)), np.zeros(c.image)
    for i in range(c.image):
        pixel = (i + 0.5) * c.scaled / c.image + c.pad
        if not 0 <= pixel <= c.cells * c.stride:
            continue
        at, cover[i] = pixel / c.stride - 0.5, 1
        for cell in range(math.floor(at) - 1, math.floor(at) + 3):
            matrix[i, min(max(cell, 0), c.cells - 1)] += keys(at - cell, -0.75)
    return matrix, cover


GEOMETRIES = [
    (46, 8, 34, 300, 300), (46, 8, -16, 400, 300), (46, 8, -60, 488, 20), (5, 8, 20, 40, 20),
    (5, 8, -30, 40, 33), (10, 4, 12, 16, 1), (3, 8, 5, 14, 50), (1, 8, 2, 5, 9), (6, 2, 1, 9, 31),
    (4, 8, -1, 20, 10), (4, 8, 13, 40, 20), (12, 8, 0, 96, 7), (7, 3, -25, 70, 23), (3, 8, 0, 24, 24),
    (9, 8, 31, 11, 5), (5, 4, 0, 20, 40), (2, 8, 3, 10, 64),
    (60, 8, 40, 400, 90), (30, 4, 7, 100, 333), (12, 8, 6, 80, 100), (46, 8, 0, 368, 368),
    (3, 64, 10, 150, 70),
]  # fmt: skip


GUARD = 8


@pytest.mark.parametrize("opencv", [0, 1])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_row_of_the_chain_is_that_of_the_two_matrices(math_library, geometry, opencv):
    chain = Chain(*geometry, opencv)
    matrix, cover = (opencv_chain if opencv else release_chain)(chain)
    taps = call(math_library, "taps_of_chain", ctypes.c_int, ctypes.byref(chain))
    assert 1 <= taps <= chain.cells
    for i in range(chain.image):
        # Beside the row are negative zeros: also nothing that is added there would make them positive.
        memory = np.full(GUARD + taps + GUARD, -0.0, np.float32)
        weights = memory[GUARD:-GUARD]
        weights[:] = 77
        first = ctypes.c_int(-77)
        covered = call(math_library, "row_of_chain", ctypes.c_float, ctypes.byref(chain), I(i), I(taps),
                       pointer(weights), ctypes.byref(first))  # fmt: skip
        assert covered == pytest.approx(cover[i], abs=1e-6)
        assert 0 <= first.value <= chain.cells - taps
        row = np.zeros(chain.cells)
        row[first.value : first.value + taps] = weights
        np.testing.assert_allclose(row, matrix[i], rtol=0, atol=2e-6)
        beside = np.delete(memory, np.arange(GUARD, GUARD + taps))
        assert (beside == 0).all(), "written beside the row"
        assert np.signbit(beside).all(), "written beside the row"


def test_few_cells_are_looked_at(math_library):
    """Four cells where OpenCV looks at four; of the release's steps hardly more than weigh anything."""
    assert call(math_library, "taps_of_chain", ctypes.c_int, ctypes.byref(Chain(46, 8, 0, 300, 300, 1))) == 4
    assert call(math_library, "taps_of_chain", ctypes.c_int, ctypes.byref(Chain(3, 8, 0, 24, 24, 1))) == 3
    for scaled in (100, 300, 900):
        chain = Chain(200, 8, 0, scaled, 300, 0)
        used = (np.abs(release_chain(chain)[0]) > 1e-9).sum(1).max()
        assert used <= call(math_library, "taps_of_chain", ctypes.c_int, ctypes.byref(chain)) <= used + 1
    for geometry in GEOMETRIES:
        chain = Chain(*geometry, 0)
        pixels = max(4, math.ceil(4 / min(1, chain.image / chain.scaled)))
        wanted = min(chain.cells, 4 + math.ceil((pixels - 1) / chain.stride))
        assert call(math_library, "taps_of_chain", ctypes.c_int, ctypes.byref(chain)) == wanted


@pytest.mark.parametrize("opencv", [0, 1])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_neighbouring_pixels_depend_on_few_cells_together(math_library, geometry, opencv):
    chain = Chain(*geometry, opencv)
    used = np.abs((opencv_chain if opencv else release_chain)(chain)[0]) > 1e-9
    for count in (1, 2, 8, 32):
        most = 0
        for i in range(max(1, chain.image - count + 1)):
            cells = np.flatnonzero(used[i : i + count].any(0))
            most = max(most, np.ptp(cells) + 1 if len(cells) else 0)
        depth = call(math_library, "depth_of_chain", ctypes.c_int, ctypes.byref(chain), I(count))
        assert most <= depth <= chain.cells
        between = (count - 1) * chain.scaled / chain.image / chain.stride
        taps = call(math_library, "taps_of_chain", ctypes.c_int, ctypes.byref(chain))
        assert depth == min(chain.cells, taps + math.ceil(between))


def test_the_axes_of_a_chain(math_library):
    assert ints(math_library, "axis_of_chain", 6, I(0), I(1)) == [1, 3, 6, 8, 4, 1]
    assert ints(math_library, "axis_of_chain", 6, I(1), I(0)) == [2, 3, 7, 9, 5, 0]


def test_border_order_and_parabola(math_library):
    assert call(math_library, "sum_of_product", ctypes.c_double, F(3), F(5), F(7)) == 22
    assert call(math_library, "not_covered", ctypes.c_double, F(0.5), F(0.25)) == 0.875
    assert call(math_library, "rank_of", ctypes.c_longlong, I(3), I(5), I(70), I(90), I(1)) == 275
    assert call(math_library, "rank_of", ctypes.c_longlong, I(3), I(5), I(70), I(90), I(0)) == 353
    for before, here, after, wanted in (
        (1.0, 2.0, 1.0, 0.0), (1.0, 2.0, 1.5, 1 / 6), (1.5, 2.0, 1.0, -1 / 6), (2.0, 2.0, 1.0, -0.5),
        (1.0, 2.0, 2.0, 0.5), (2.0, 2.0, 2.0, 0.0), (3.0, 2.0, 3.0, 0.0), (5.0, 2.0, -5.0, -0.5),
        (-5.0, 2.0, 5.0, 0.5), (0.25, 1.0, 0.75, 0.25), (0.0, 1.0, 1.1, 0.5), (1.1, 1.0, 0.0, -0.5),
    ):  # fmt: skip
        got = call(math_library, "top_of", ctypes.c_float, F(before), F(here), F(after))
        assert got == pytest.approx(wanted, abs=1e-7)
