"""Belief maps and losses in csrc/math against their definition, written down again in NumPy: no torch.

Each rule is held to its last bit where it has one, at the places where it turns: the tests of the operations
see whole maps within a tolerance. `tests/mutation` shows that faults in these headers are noticed.
"""

from __future__ import annotations

import ctypes
import math
import subprocess
from ctypes import c_double as D
from ctypes import c_float as F
from ctypes import c_int as I

import numpy as np
import pytest
from compiled import compiler
from math_functions import API, call, ints, pointer

CUTOFF = 4.6052
SIGMAS = (1.5, 7.0, 21.0)


def test_clamping_compares_before_it_converts(math_library):
    nan, huge = float("nan"), 1e300
    cases = {(-3.0, 2): 2, (2.0, 2): 2, (2.9, 2): 2, (3.0, 2): 3, (9.0, 2): 9, (9.9, 2): 9, (10.0, 2): 10,
             (10.5, 2): 10, (nan, 2): 2, (huge, 2): 10, (-huge, 2): 2}  # fmt: skip
    for (value, low), wanted in cases.items():
        assert call(math_library, "clamp", ctypes.c_int, D(value), I(low), I(10)) == wanted


def exponent(d2, sigma):
    """As stored by the original: float32 of a double division by sigma twice."""
    return np.float32(np.asarray(d2, np.float32).astype(np.float64) / 2 / sigma / sigma)


def around(value, steps=400):
    """float32 numbers around a value."""
    bits = np.float32(value).view(np.int32) + np.arange(-steps, steps + 1, dtype=np.int32)
    return bits.view(np.float32)


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("cutoff", [0, 1])
def test_a_bump_ends_where_its_exponent_passes_the_cutoff_to_the_last_bit(math_library, sigma, cutoff):
    edge = 2 * sigma * sigma * CUTOFF
    d2 = np.concatenate([around(edge), np.float32(edge) * np.linspace(0, 1.2, 4001, dtype=np.float32)])
    wanted = exponent(d2, sigma).astype(np.float64) <= CUTOFF if cutoff else np.full(len(d2), True)
    assert 0.5 < wanted.mean() <= 1
    got = np.empty(len(d2), np.int32)
    call(math_library, "inside", None, pointer(d2), pointer(got), I(len(d2)), D(sigma), I(cutoff))
    assert np.array_equal(got, wanted)
    cells = np.linspace(0, 1, len(d2), dtype=np.float32)
    sums = np.empty_like(cells)
    call(
        math_library, "add", None, pointer(cells), pointer(d2), pointer(sums), I(len(d2)), D(sigma), I(cutoff)
    )
    bumps = np.where(wanted, np.exp(-exponent(d2, sigma)), np.float32(0))
    np.testing.assert_allclose(sums, np.minimum(cells + bumps, 1), rtol=0, atol=2e-7)
    assert np.array_equal(sums == cells, ~wanted | (cells == 1)), "a bump is added exactly where it is inside"
    # The cheap bound may err towards inside only, and by little: it decides nearly everywhere.
    limit = call(math_library, "bump_limit", ctypes.c_float, D(sigma), I(cutoff))
    assert limit >= d2[wanted].max()
    assert limit < edge * (1 + 1e-4) or not cutoff
    assert limit == np.finfo(np.float32).max or cutoff


def test_a_width_beyond_float32_bounds_nothing(math_library):
    assert call(math_library, "bump_limit", ctypes.c_float, D(1e25), I(1)) == np.finfo(np.float32).max
    assert np.isfinite(call(math_library, "bump_limit", ctypes.c_float, D(1e18), I(1)))
    assert call(math_library, "bump_limit", ctypes.c_float, D(1e18), I(1)) < 1e38
    largest, got = np.array([np.finfo(np.float32).max], np.float32), np.empty(1, np.int32)
    call(math_library, "inside", None, pointer(largest), pointer(got), I(1), D(1e25), I(1))
    assert got.tolist() == [1], "at the bound the exact rule decides"


@pytest.mark.parametrize("sigma", [1e-30, 1e-22, 3e-20, 1e-3, *SIGMAS, 1e9, 1e18, 1e25])
@pytest.mark.parametrize("cutoff", [0, 1])
def test_beyond_a_bumps_reach_along_one_axis_no_cell_is_inside(math_library, sigma, cutoff):
    """Distances whose squares are no longer normal numbers among them."""
    reach = call(math_library, "reach", ctypes.c_float, D(sigma), I(cutoff))
    limit = call(math_library, "bump_limit", ctypes.c_float, D(sigma), I(cutoff))
    with np.errstate(over="ignore", under="ignore"):
        outside = np.float32(reach) * np.float32(2) ** np.arange(40, dtype=np.float32)
        beyond = np.concatenate([around(reach)[401:], outside[1:]])
        assert (beyond * beyond > np.float32(limit)).all()
    assert reach <= math.sqrt(limit) * (1 + 2e-6) + 2e-22  # and by little


def test_a_cell_is_clamped_at_one_after_each_person(math_library):
    cells, d2 = np.array([0.9, 0.0, 0.25], np.float32), np.array([1, 0, 1e30], np.float32)
    sums = np.empty_like(cells)
    call(math_library, "add", None, pointer(cells), pointer(d2), pointer(sums), I(3), D(7), I(1))
    assert sums.tolist() == [1.0, 1.0, 0.25]
    nan = np.array([float("nan")], np.float32)
    call(math_library, "add", None, pointer(cells), pointer(nan), pointer(sums), I(1), D(7), I(1))
    assert sums[0] == np.float32(0.9)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_factors_of_a_bump(math_library, sigma):
    d = np.linspace(-60, 60, 997, dtype=np.float32)
    got = np.empty_like(d)
    call(math_library, "axis", None, pointer(d), pointer(got), I(len(d)), D(sigma))
    wanted = np.exp(-(d.astype(float) ** 2) / 2 / sigma**2)
    np.testing.assert_allclose(got, wanted, rtol=3e-5, atol=1e-37)


def test_cells_distances_and_finite_numbers(math_library):
    for stride, g in ((8, 0), (8, 5), (1, 3), (4, 7)):
        wanted = stride / 2 - 0.5 + g * stride
        assert call(math_library, "pixel_of_cell", ctypes.c_float, I(g), F(stride)) == wanted
    assert call(math_library, "distance2", ctypes.c_float, F(5), F(-2), F(2), F(5)) == 58
    for value, wanted in ((0.0, 1), (-3e38, 1), (float("inf"), 0), (-float("inf"), 0), (float("nan"), 0)):
        assert call(math_library, "is_a_number", ctypes.c_int, F(value)) == wanted
    for value, wanted in ((0.25, 0.75), (1.0, 0.0), (1.5, 0.0), (0.0, 1.0), (-0.5, 1.5)):
        assert call(math_library, "background", ctypes.c_float, F(value)) == wanted


PEOPLE, PARTS, SAMPLES = 3, 4, 2


def joints_of(seed=0):
    random = np.random.default_rng(seed)
    joints = random.uniform(-5, 45, (SAMPLES, PEOPLE, PARTS, 2)).astype(np.float32)
    joints[0, 0, 1, 0], joints[1, 2, 3, 1] = np.nan, np.inf
    return joints, random.integers(-1, 4, (SAMPLES, PEOPLE, PARTS)).astype(np.int32)


def shown(joints, visible):
    """Which joints get a bump."""
    return np.isin(visible, (0, 1)) & np.isfinite(joints).all(-1)


def test_which_joints_are_drawn_and_where(math_library):
    joints, visible = joints_of()
    at = np.empty(2, np.float32)
    for n, person, part in np.ndindex(SAMPLES, PEOPLE, PARTS):
        got = call(math_library, "drawn", ctypes.c_int, pointer(joints), pointer(visible), I(PEOPLE),
                   I(PARTS), I(n), I(person), I(part), pointer(at))  # fmt: skip
        assert got == shown(joints, visible)[n, person, part]
        assert np.array_equal(at, joints[n, person, part], equal_nan=True)
    assert 0 < shown(joints, visible).sum() < shown(joints, visible).size


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("stride", [1.0, 8.0])
def test_a_span_holds_every_cell_that_a_bump_reaches_and_no_other(math_library, sigma, stride):
    cells = 46
    centers = stride / 2 - 0.5 + stride * np.arange(cells)
    reach = math.sqrt(2 * sigma * sigma * CUTOFF)
    for c in [*np.linspace(-60, cells * stride + 60, 301), *(centers[7] + reach + d for d in (-0.01, 0.01))]:
        inside = np.flatnonzero(np.abs(centers - np.float32(c)) <= reach)
        first, last = ints(math_library, "span", 2, F(c), I(cells), F(stride), D(sigma), I(1))
        if len(inside):
            assert (first, last) == (inside[0], inside[-1])
        else:
            assert first > last
        assert 0 <= first <= cells
        assert -1 <= last < cells
    assert ints(math_library, "span", 2, F(-500), I(cells), F(stride), D(sigma), I(0)) == [0, cells - 1]


def test_the_targets_of_both_groups(math_library):
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
                call(math_library, "target", None, pointer(joints), pointer(visible), I(PEOPLE), I(PARTS),
                     D(sigma), I(n), I(channel), F(x), F(y), pointer(got))  # fmt: skip
                wanted = [m[channel] if channel < PARTS else max(1 - m.max(), 0) for m in maps]
                np.testing.assert_allclose(got, wanted, rtol=0, atol=3e-7)
                assert np.signbit(memory[[0, 3]]).all(), "written beside the two"
    assert [call(math_library, "group_of", ctypes.c_int, I(stage)) for stage in range(4)] == [1, 0, 0, 0]
    gradient = call(math_library, "gradient", ctypes.c_float, F(0.75), F(0.25), F(3), D(0.125))
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


def test_without_people_every_target_is_background(math_library):
    got, nobody = np.empty(2, np.float32), np.empty(0, np.float32)
    for channel in range(PARTS + 1):
        call(math_library, "target", None, pointer(nobody), pointer(nobody), I(0), I(PARTS),
             D(7), I(0), I(channel), F(3.5), F(3.5), pointer(got))  # fmt: skip
        assert got.tolist() == [float(channel == PARTS)] * 2
