"""csrc/math through its plain C entry points, for tests that write each rule down again in NumPy."""

from __future__ import annotations

import ctypes
import math
from pathlib import Path

import numpy as np

API = Path(__file__).with_name("math_api.cpp")


def call(library, name, kind, *arguments):
    """A function of ``math_api.cpp`` that returns ``kind``."""
    function = getattr(library, name)
    function.restype = kind
    return function(*arguments)


def pointer(array):
    """A NumPy array's address."""
    return ctypes.c_void_p(array.ctypes.data)


def ints(library, name, count, *arguments):
    """What a function writes: so many int32."""
    to = np.full(count, -77, np.int32)
    call(library, name, None, *arguments, pointer(to))
    return to.tolist()


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
