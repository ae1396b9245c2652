"""16-bit numbers of csrc/math there and back, against NumPy: every border of the rounding."""

from __future__ import annotations

import ctypes
from ctypes import c_int as I

import numpy as np
from math_functions import call, pointer


def test_every_half_its_neighbours_and_the_middles_between_them(math_library):
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)  # 0 to 65504
    middles = (halves + np.append(halves[1:], np.float32(65536))) / 2
    exact = np.concatenate([halves, middles]).view(np.uint32)
    bits = np.concatenate([exact, exact + 1, exact[exact > 0] - 1])
    bits = np.concatenate([bits, np.array([0x7F800000, 0x7FC00000, 0x7F7FFFFF, 1], np.uint32)])
    values = np.concatenate([bits, bits | 0x80000000]).astype(np.uint32).view(np.float32)
    got, brain = np.empty(len(values), np.uint16), np.empty(len(values), np.uint16)
    call(math_library, "halves", None, pointer(values), pointer(got), pointer(brain), I(len(values)))
    with np.errstate(over="ignore"):
        wanted = values.astype(np.float16)
    nan = np.isnan(values)
    assert nan.sum() == 2
    assert np.isnan(got.view(np.float16)[nan]).all()
    assert np.array_equal(got[~nan], wanted.view(np.uint16)[~nan])


def test_16_bit_numbers_there_and_back(math_library):
    bits = np.arange(1 << 16, dtype=np.uint16)
    half, brain = np.empty(1 << 16, np.float32), np.empty(1 << 16, np.float32)
    call(math_library, "floats", None, pointer(bits), pointer(half), pointer(brain), I(1 << 16))
    with np.errstate(invalid="ignore"):
        assert np.array_equal(half, bits.view(np.float16).astype(np.float32), equal_nan=True)
        assert np.array_equal(np.signbit(half), bits >= 0x8000)
        wanted = (bits.astype(np.uint32) << 16).view(np.float32)
        assert np.array_equal(brain, wanted, equal_nan=True)
    half_bits, brain_bits = np.empty_like(bits), np.empty_like(bits)
    call(math_library, "halves", None, pointer(half), pointer(half_bits), pointer(brain_bits), I(1 << 16))
    number = ~np.isnan(half)
    assert np.array_equal(half_bits[number], bits[number])
    call(math_library, "halves", None, pointer(brain), pointer(half_bits), pointer(brain_bits), I(1 << 16))
    number = ~np.isnan(brain)
    assert np.array_equal(brain_bits[number], bits[number])
    assert np.isnan((brain_bits[~number].astype(np.uint32) << 16).view(np.float32)).all()
    assert call(math_library, "kept", ctypes.c_float, pointer(brain), I(5)) == brain[5]


def test_a_bfloat16_is_the_nearest_and_of_two_the_even_one(math_library):
    whole = np.random.default_rng(0).integers(0, 0x7F7F, 3000).astype(np.uint32)
    for low, up in ((0x7FFF, 0), (0x8000, 1), (0x8001, 2), (0, 0)):  # 1: to even, 2: always up
        raw = (whole << 16) + np.uint32(low)
        wanted = whole + (whole & 1 if up == 1 else up // 2)
        for sign in (0, 0x8000):
            values = (raw | np.uint32(sign << 16)).view(np.float32)
            half, brain = np.empty(len(raw), np.uint16), np.empty(len(raw), np.uint16)
            call(math_library, "halves", None, pointer(values), pointer(half), pointer(brain), I(len(raw)))
            assert np.array_equal(brain, wanted | sign)
    special = np.array([np.inf, -np.inf, 3.4028235e38], np.float32)
    half, brain = np.empty(3, np.uint16), np.empty(3, np.uint16)
    call(math_library, "halves", None, pointer(special), pointer(half), pointer(brain), I(3))
    assert brain.tolist() == [0x7F80, 0xFF80, 0x7F80]
