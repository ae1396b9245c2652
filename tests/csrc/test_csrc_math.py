"""Every function of csrc/math against its definition, written down again in NumPy: no torch, a few seconds.

The tests of the operations see whole maps within a tolerance; here each rule is held to its last bit where it
has one, at the places where it turns. `tests/mutation` shows that faults in these headers are noticed.
"""

from __future__ import annotations

import ctypes
import math
import subprocess
from ctypes import c_double as D
from ctypes import c_float as F
from ctypes import c_int as I
from pathlib import Path

import numpy as np
import pytest
from compiled import compile_library, compiler

API = Path(__file__).with_name("math_api.cpp")
CUTOFF = 4.6052
SIGMAS = (1.5, 7.0, 21.0)


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("math")
    return compile_library(folder, f'#include "{API}"\n', "-ffp-contract=off")


def call(library, name, kind, *arguments):
    function = getattr(library, name)
    function.restype = kind
    return function(*arguments)


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


def ints(library, name, count, *arguments):
    to = np.full(count, -77, np.int32)
    call(library, name, None, *arguments, pointer(to))
    return to.tolist()


def test_clamping_compares_before_it_converts(library):
    nan, huge = float("nan"), 1e300
    cases = {(-3.0, 2): 2, (2.0, 2): 2, (2.9, 2): 2, (3.0, 2): 3, (9.0, 2): 9, (9.9, 2): 9, (10.0, 2): 10,
             (10.5, 2): 10, (nan, 2): 2, (huge, 2): 10, (-huge, 2): 2}  # fmt: skip
    for (value, low), wanted in cases.items():
        assert call(library, "clamp", ctypes.c_int, D(value), I(low), I(10)) == wanted


def exponent(d2, sigma):
    """As stored by the original: float32 of a double division by sigma twice."""
    return np.float32(np.asarray(d2, np.float32).astype(np.float64) / 2 / sigma / sigma)


def around(value, steps=400):
    """float32 numbers around a value."""
    bits = np.float32(value).view(np.int32) + np.arange(-steps, steps + 1, dtype=np.int32)
    return bits.view(np.float32)


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("cutoff", [0, 1])
def test_a_bump_ends_where_its_exponent_passes_the_cutoff_to_the_last_bit(library, sigma, cutoff):
    edge = 2 * sigma * sigma * CUTOFF
    d2 = np.concatenate([around(edge), np.float32(edge) * np.linspace(0, 1.2, 4001, dtype=np.float32)])
    wanted = exponent(d2, sigma).astype(np.float64) <= CUTOFF if cutoff else np.full(len(d2), True)
    assert 0.5 < wanted.mean() <= 1
    got = np.empty(len(d2), np.int32)
    call(library, "inside", None, pointer(d2), pointer(got), I(len(d2)), D(sigma), I(cutoff))
    assert np.array_equal(got, wanted)
    cells = np.linspace(0, 1, len(d2), dtype=np.float32)
    sums = np.empty_like(cells)
    call(library, "add", None, pointer(cells), pointer(d2), pointer(sums), I(len(d2)), D(sigma), I(cutoff))
    bumps = np.where(wanted, np.exp(-exponent(d2, sigma)), np.float32(0))
    np.testing.assert_allclose(sums, np.minimum(cells + bumps, 1), rtol=0, atol=2e-7)
    assert np.array_equal(sums == cells, ~wanted | (cells == 1)), "a bump is added exactly where it is inside"
    # The cheap bound may err towards inside only, and by little: it decides nearly everywhere.
    limit = call(library, "bump_limit", ctypes.c_float, D(sigma), I(cutoff))
    assert limit >= d2[wanted].max()
    assert limit < edge * (1 + 1e-4) or not cutoff
    assert limit == np.finfo(np.float32).max or cutoff


def test_a_width_beyond_float32_bounds_nothing(library):
    assert call(library, "bump_limit", ctypes.c_float, D(1e25), I(1)) == np.finfo(np.float32).max
    assert np.isfinite(call(library, "bump_limit", ctypes.c_float, D(1e18), I(1)))
    assert call(library, "bump_limit", ctypes.c_float, D(1e18), I(1)) < 1e38
    largest, got = np.array([np.finfo(np.float32).max], np.float32), np.empty(1, np.int32)
    call(library, "inside", None, pointer(largest), pointer(got), I(1), D(1e25), I(1))
    assert got.tolist() == [1], "at the bound the exact rule decides"


@pytest.mark.parametrize("sigma", [1e-30, 1e-22, 3e-20, 1e-3, *SIGMAS, 1e9, 1e18, 1e25])
@pytest.mark.parametrize("cutoff", [0, 1])
def test_beyond_a_bumps_reach_along_one_axis_no_cell_is_inside(library, sigma, cutoff):
    """Distances whose squares are no longer normal numbers among them."""
    reach = call(library, "reach", ctypes.c_float, D(sigma), I(cutoff))
    limit = call(library, "bump_limit", ctypes.c_float, D(sigma), I(cutoff))
    with np.errstate(over="ignore", under="ignore"):
        outside = np.float32(reach) * np.float32(2) ** np.arange(40, dtype=np.float32)
        beyond = np.concatenate([around(reach)[401:], outside[1:]])
        assert (beyond * beyond > np.float32(limit)).all()
    assert reach <= math.sqrt(limit) * (1 + 2e-6) + 2e-22  # and by little


def test_a_cell_is_clamped_at_one_after_each_person(library):
    cells, d2 = np.array([0.9, 0.0, 0.25], np.float32), np.array([1, 0, 1e30], np.float32)
    sums = np.empty_like(cells)
    call(library, "add", None, pointer(cells), pointer(d2), pointer(sums), I(3), D(7), I(1))
    assert sums.tolist() == [1.0, 1.0, 0.25]
    nan = np.array([float("nan")], np.float32)
    call(library, "add", None, pointer(cells), pointer(nan), pointer(sums), I(1), D(7), I(1))
    assert sums[0] == np.float32(0.9)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_factors_of_a_bump(library, sigma):
    d = np.linspace(-60, 60, 997, dtype=np.float32)
    got = np.empty_like(d)
    call(library, "axis", None, pointer(d), pointer(got), I(len(d)), D(sigma))
    wanted = np.exp(-(d.astype(float) ** 2) / 2 / sigma**2)
    np.testing.assert_allclose(got, wanted, rtol=3e-5, atol=1e-37)


def test_cells_distances_and_finite_numbers(library):
    for stride, g in ((8, 0), (8, 5), (1, 3), (4, 7)):
        wanted = stride / 2 - 0.5 + g * stride
        assert call(library, "pixel_of_cell", ctypes.c_float, I(g), F(stride)) == wanted
    assert call(library, "distance2", ctypes.c_float, F(5), F(-2), F(2), F(5)) == 58
    for value, wanted in ((0.0, 1), (-3e38, 1), (float("inf"), 0), (-float("inf"), 0), (float("nan"), 0)):
        assert call(library, "is_a_number", ctypes.c_int, F(value)) == wanted
    for value, wanted in ((0.25, 0.75), (1.0, 0.0), (1.5, 0.0), (0.0, 1.0), (-0.5, 1.5)):
        assert call(library, "background", ctypes.c_float, F(value)) == wanted


PEOPLE, PARTS, SAMPLES = 3, 4, 2


def joints_of(seed=0):
    random = np.random.default_rng(seed)
    joints = random.uniform(-5, 45, (SAMPLES, PEOPLE, PARTS, 2)).astype(np.float32)
    joints[0, 0, 1, 0], joints[1, 2, 3, 1] = np.nan, np.inf
    return joints, random.integers(-1, 4, (SAMPLES, PEOPLE, PARTS)).astype(np.int32)


def shown(joints, visible):
    """Which joints get a bump."""
    return np.isin(visible, (0, 1)) & np.isfinite(joints).all(-1)


def test_which_joints_are_drawn_and_where(library):
    joints, visible = joints_of()
    at = np.empty(2, np.float32)
    for n, person, part in np.ndindex(SAMPLES, PEOPLE, PARTS):
        got = call(library, "drawn", ctypes.c_int, pointer(joints), pointer(visible), I(PEOPLE), I(PARTS),
                   I(n), I(person), I(part), pointer(at))  # fmt: skip
        assert got == shown(joints, visible)[n, person, part]
        assert np.array_equal(at, joints[n, person, part], equal_nan=True)
    assert 0 < shown(joints, visible).sum() < shown(joints, visible).size


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("stride", [1.0, 8.0])
def test_a_span_holds_every_cell_that_a_bump_reaches_and_no_other(library, sigma, stride):
    cells = 46
    centers = stride / 2 - 0.5 + stride * np.arange(cells)
    reach = math.sqrt(2 * sigma * sigma * CUTOFF)
    for c in [*np.linspace(-60, cells * stride + 60, 301), *(centers[7] + reach + d for d in (-0.01, 0.01))]:
        inside = np.flatnonzero(np.abs(centers - np.float32(c)) <= reach)
        first, last = ints(library, "span", 2, F(c), I(cells), F(stride), D(sigma), I(1))
        if len(inside):
            assert (first, last) == (inside[0], inside[-1])
        else:
            assert first > last
        assert 0 <= first <= cells
        assert -1 <= last < cells
    assert ints(library, "span", 2, F(-500), I(cells), F(stride), D(sigma), I(0)) == [0, cells - 1]


def test_16_bit_numbers_there_and_back(library):
    bits = np.arange(1 << 16, dtype=np.uint16)
    half, brain = np.empty(1 << 16, np.float32), np.empty(1 << 16, np.float32)
    call(library, "floats", None, pointer(bits), pointer(half), pointer(brain), I(1 << 16))
    with np.errstate(invalid="ignore"):
        assert np.array_equal(half, bits.view(np.float16).astype(np.float32), equal_nan=True)
        assert np.array_equal(np.signbit(half), bits >= 0x8000)
        wanted = (bits.astype(np.uint32) << 16).view(np.float32)
        assert np.array_equal(brain, wanted, equal_nan=True)
    half_bits, brain_bits = np.empty_like(bits), np.empty_like(bits)
    call(library, "halves", None, pointer(half), pointer(half_bits), pointer(brain_bits), I(1 << 16))
    number = ~np.isnan(half)
    assert np.array_equal(half_bits[number], bits[number])
    call(library, "halves", None, pointer(brain), pointer(half_bits), pointer(brain_bits), I(1 << 16))
    number = ~np.isnan(brain)
    assert np.array_equal(brain_bits[number], bits[number])
    assert np.isnan((brain_bits[~number].astype(np.uint32) << 16).view(np.float32)).all()
    assert call(library, "kept", ctypes.c_float, pointer(brain), I(5)) == brain[5]


def test_a_bfloat16_is_the_nearest_and_of_two_the_even_one(library):
    whole = np.random.default_rng(0).integers(0, 0x7F7F, 3000).astype(np.uint32)
    for low, up in ((0x7FFF, 0), (0x8000, 1), (0x8001, 2), (0, 0)):  # 1: to even, 2: always up
        raw = (whole << 16) + np.uint32(low)
        wanted = whole + (whole & 1 if up == 1 else up // 2)
        for sign in (0, 0x8000):
            values = (raw | np.uint32(sign << 16)).view(np.float32)
            half, brain = np.empty(len(raw), np.uint16), np.empty(len(raw), np.uint16)
            call(library, "halves", None, pointer(values), pointer(half), pointer(brain), I(len(raw)))
            assert np.array_equal(brain, wanted | sign)
    special = np.array([np.inf, -np.inf, 3.4028235e38], np.float32)
    half, brain = np.empty(3, np.uint16), np.empty(3, np.uint16)
    call(library, "halves", None, pointer(special), pointer(half), pointer(brain), I(3))
    assert brain.tolist() == [0x7F80, 0xFF80, 0x7F80]


def test_the_targets_of_both_groups(library):
    """[0] the annotated person alone, [1] everybody; the last channel is what they leave of 1."""
    joints, visible = joints_of(1)
    there, memory = shown(joints, visible), np.full(4, -0.0, np.float32)
    got = memory[1:3]
    sigma, cells = 7.0, [(x, y) for x in (3.5, 19.5, 35.5) for y in (3.5, 11.5, 43.5)]
    assert there[:, 0].any()
    for n in range(SAMPLES):
        for x, y in cells:
            d2 = (np.float32(x) - joints[n, ..., 0]) ** 2 + (np.float32(y) - joints[n, ..., 1]) ** 2
            with np.errstate(invalid="ignore"):
                inside = there[n] & (exponent(d2, sigma) <= CUTOFF)
                bumps = np.where(inside, np.exp(-exponent(d2, sigma)), 0)
            maps = [bumps[0], np.minimum(bumps.sum(0), 1)]
            for channel in range(PARTS + 1):
                call(library, "target", None, pointer(joints), pointer(visible), I(PEOPLE), I(PARTS),
                     D(sigma), I(n), I(channel), F(x), F(y), pointer(got))  # fmt: skip
                wanted = [m[channel] if channel < PARTS else max(1 - m.max(), 0) for m in maps]
                np.testing.assert_allclose(got, wanted, rtol=0, atol=3e-7)
                assert np.signbit(memory[[0, 3]]).all(), "written beside the two"
    assert [call(library, "group_of", ctypes.c_int, I(stage)) for stage in range(4)] == [1, 0, 0, 0]
    gradient = call(library, "gradient", ctypes.c_float, F(0.75), F(0.25), F(3), D(0.125))
    assert gradient == 0.5 * 2 * 0.125 * 3


def test_no_third_group_is_looked_at(tmp_path):
    """Behind an array of two is whatever is there, which need not show: the program shall stop at it."""
    program, source = tmp_path / "targets", tmp_path / "targets.cpp"
    source.write_text(TARGETS_OF_EVERY_CHANNEL)
    undefined_stops = ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    subprocess.run([compiler(), "-std=c++17", *undefined_stops, str(source), "-o", str(program)], check=True)
    subprocess.run([program], check=True)


TARGETS_OF_EVERY_CHANNEL = f"""
#include "{API}"
int main() {{
  const float joints[] = {{3, 4, 5, 6, 7, 8, 9, 10}};
  const int visible[] = {{1, 0, 2, 1}};
  float to[2];
  for (int channel = 0; channel <= 2; ++channel) {{
    target(joints, visible, 2, 2, 7.0, 0, channel, 3.5f, 3.5f, to);
  }}
}}
"""


def test_without_people_every_target_is_background(library):
    got, nobody = np.empty(2, np.float32), np.empty(0, np.float32)
    for channel in range(PARTS + 1):
        call(library, "target", None, pointer(nobody), pointer(nobody), I(0), I(PARTS),
             D(7), I(0), I(channel), F(3.5), F(3.5), pointer(got))  # fmt: skip
        assert got.tolist() == [float(channel == PARTS)] * 2


def keys(x, a):
    """Keys' kernel as printed: two cubics, by distance."""
    x = np.abs(np.asarray(x, float))
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def imresize_matrix(length, wanted, scale):
    """MATLAB's bicubic resampling of one axis as (wanted, length) matrix; borders mirrored."""
    matrix = np.zeros((wanted, length))
    mirror = np.concatenate([np.arange(length), np.arange(length)[::-1]])
    stretch = min(scale, 1)
    for i in range(wanted):
        u = (i + 1) / scale + 0.5 * (1 - 1 / scale) - 1
        index = np.arange(math.floor(u - 2 / stretch) - 2, math.ceil(u + 2 / stretch) + 3)
        weights = keys(stretch * (u - index), -0.5)
        np.add.at(matrix[i], mirror[index % (2 * length)], weights / weights.sum())
    return matrix


def test_the_kernel(library):
    x = np.linspace(-2.5, 2.5, 1001)
    for a in (-0.5, -0.75):
        got = [call(library, "cubic_kernel", ctypes.c_double, D(value), D(a)) for value in x]
        np.testing.assert_allclose(got, keys(x, a), rtol=0, atol=1e-14)


@pytest.mark.parametrize("scale", [8.0, 4.0, 1.7, 1.2, 1.0, 0.96, 0.6, 0.25, 0.031])
def test_positions_and_weights_of_resampling(library, scale):
    stretch = min(scale, 1)
    taps = call(library, "taps_of", ctypes.c_int, D(scale))
    assert taps >= math.ceil(4 / stretch) + 2
    for i in range(60):
        u = (i + 1) / scale + 0.5 * (1 - 1 / scale) - 1
        at = call(library, "position", ctypes.c_double, D(scale), I(i))
        assert at == pytest.approx(u, abs=1e-9)
        first = call(library, "first_of", ctypes.c_double, D(scale), I(i))
        index = np.arange(first - 3, first + taps + 3)
        got = [call(library, "weight_of", ctypes.c_double, D(scale), I(i), D(value)) for value in index]
        np.testing.assert_allclose(got, stretch * keys(stretch * (u - index), -0.5), rtol=0, atol=1e-11)
        assert np.flatnonzero(np.abs(got) > 1e-9).min() >= 3, "every weight lies behind the first pixel"
        assert np.flatnonzero(np.abs(got) > 1e-9).max() < 3 + taps, "and among the pixels looked at"


def test_few_taps_are_looked_at(library):
    """As many as MATLAB looks at, no more: they cost time."""
    for scale, wanted in ((8.0, 6), (1.2, 6), (1.0, 6), (0.5, 10), (0.4, 12), (0.3, 16)):
        assert call(library, "taps_of", ctypes.c_int, D(scale)) == wanted


@pytest.mark.parametrize("length", [1, 2, 7])
def test_borders_are_mirrored_with_the_edge_repeated(library, length):
    mirror = [*range(length), *reversed(range(length))]
    for index in range(-5 * length, 5 * length):
        assert call(library, "mirrored", ctypes.c_int, D(index), I(length)) == mirror[index % (2 * length)]


def test_bytes_are_rounded_half_to_even_and_limited(library):
    values = np.array(
        [-1e9, -0.5, 0.4, 0.5, 1.5, 2.5, 253.5, 254.5, 254.6, 255.0, 255.4, 1e9, 77.3, 256, 300]
    )
    wanted = [0, 0, 0, 0, 2, 2, 254, 254, 255, 255, 255, 255, 77, 255, 255]
    size = len(values)
    bytes_, singles, doubles = np.empty(size, np.uint8), np.empty(size, np.float32), np.empty(size)
    call(library, "stored", None, *map(pointer, (values, bytes_, singles, doubles)), I(size))
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
def test_a_row_of_the_chain_is_that_of_the_two_matrices(library, geometry, opencv):
    chain = Chain(*geometry, opencv)
    matrix, cover = (opencv_chain if opencv else release_chain)(chain)
    taps = call(library, "taps_of_chain", ctypes.c_int, ctypes.byref(chain))
    assert 1 <= taps <= chain.cells
    for i in range(chain.image):
        # Beside the row are negative zeros: also nothing that is added there would make them positive.
        memory = np.full(GUARD + taps + GUARD, -0.0, np.float32)
        weights = memory[GUARD:-GUARD]
        weights[:] = 77
        first = ctypes.c_int(-77)
        covered = call(library, "row_of_chain", ctypes.c_float, ctypes.byref(chain), I(i), I(taps),
                       pointer(weights), ctypes.byref(first))  # fmt: skip
        assert covered == pytest.approx(cover[i], abs=1e-6)
        assert 0 <= first.value <= chain.cells - taps
        row = np.zeros(chain.cells)
        row[first.value : first.value + taps] = weights
        np.testing.assert_allclose(row, matrix[i], rtol=0, atol=2e-6)
        beside = np.delete(memory, np.arange(GUARD, GUARD + taps))
        assert (beside == 0).all(), "written beside the row"
        assert np.signbit(beside).all(), "written beside the row"


def test_few_cells_are_looked_at(library):
    """Four cells where OpenCV looks at four; of the release's steps hardly more than weigh anything."""
    assert call(library, "taps_of_chain", ctypes.c_int, ctypes.byref(Chain(46, 8, 0, 300, 300, 1))) == 4
    assert call(library, "taps_of_chain", ctypes.c_int, ctypes.byref(Chain(3, 8, 0, 24, 24, 1))) == 3
    for scaled in (100, 300, 900):
        chain = Chain(200, 8, 0, scaled, 300, 0)
        used = (np.abs(release_chain(chain)[0]) > 1e-9).sum(1).max()
        assert used <= call(library, "taps_of_chain", ctypes.c_int, ctypes.byref(chain)) <= used + 1
    for geometry in GEOMETRIES:
        chain = Chain(*geometry, 0)
        pixels = max(4, math.ceil(4 / min(1, chain.image / chain.scaled)))
        wanted = min(chain.cells, 4 + math.ceil((pixels - 1) / chain.stride))
        assert call(library, "taps_of_chain", ctypes.c_int, ctypes.byref(chain)) == wanted


@pytest.mark.parametrize("opencv", [0, 1])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_neighbouring_pixels_depend_on_few_cells_together(library, geometry, opencv):
    chain = Chain(*geometry, opencv)
    used = np.abs((opencv_chain if opencv else release_chain)(chain)[0]) > 1e-9
    for count in (1, 2, 8, 32):
        most = 0
        for i in range(max(1, chain.image - count + 1)):
            cells = np.flatnonzero(used[i : i + count].any(0))
            most = max(most, np.ptp(cells) + 1 if len(cells) else 0)
        depth = call(library, "depth_of_chain", ctypes.c_int, ctypes.byref(chain), I(count))
        assert most <= depth <= chain.cells
        between = (count - 1) * chain.scaled / chain.image / chain.stride
        taps = call(library, "taps_of_chain", ctypes.c_int, ctypes.byref(chain))
        assert depth == min(chain.cells, taps + math.ceil(between))


def test_the_axes_of_a_chain(library):
    assert ints(library, "axis_of_chain", 6, I(0), I(1)) == [1, 3, 6, 8, 4, 1]
    assert ints(library, "axis_of_chain", 6, I(1), I(0)) == [2, 3, 7, 9, 5, 0]


def test_border_order_and_parabola(library):
    assert call(library, "sum_of_product", ctypes.c_double, F(3), F(5), F(7)) == 22
    assert call(library, "not_covered", ctypes.c_double, F(0.5), F(0.25)) == 0.875
    assert call(library, "rank_of", ctypes.c_longlong, I(3), I(5), I(70), I(90), I(1)) == 275
    assert call(library, "rank_of", ctypes.c_longlong, I(3), I(5), I(70), I(90), I(0)) == 353
    for before, here, after, wanted in (
        (1.0, 2.0, 1.0, 0.0), (1.0, 2.0, 1.5, 1 / 6), (1.5, 2.0, 1.0, -1 / 6), (2.0, 2.0, 1.0, -0.5),
        (1.0, 2.0, 2.0, 0.5), (2.0, 2.0, 2.0, 0.0), (3.0, 2.0, 3.0, 0.0), (5.0, 2.0, -5.0, -0.5),
        (-5.0, 2.0, 5.0, 0.5), (0.25, 1.0, 0.75, 0.25), (0.0, 1.0, 1.1, 0.5), (1.1, 1.0, 0.0, -0.5),
    ):  # fmt: skip
        got = call(library, "top_of", ctypes.c_float, F(before), F(here), F(after))
        assert got == pytest.approx(wanted, abs=1e-7)
