"""The bounds by which the CPU search for peaks skips pixels: maps that need every term of them."""

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest
from compiled import compiler

ROOT = Path(__file__).resolve().parents[2]
CPU = ROOT / "csrc" / "cpu"
SOURCES = [
    *(
        CPU / f"{n}.cpp"
        for n in ("fuse_tables", "fuse_rows", "fuse_tile", "peak_bounds", "fuse_multiscale_peaks")
    ),
    CPU / "fuse_multiscale.cpp",
    ROOT / "tests/csrc/peaks_api.cpp",
]


def build(folder, rest=None, name="", text=""):
    """The search as a library; with ``rest`` only the source ``name`` is compiled anew, from ``text``."""
    objects = []
    for source in SOURCES:
        target = folder / f"{source.stem}.o"
        if rest is not None and source.name != name:
            objects.append(str(rest / target.name))
            continue
        if rest is not None:
            source = folder / name
            source.write_text(text.replace('#include "', f'#include "{CPU}/'))
        flags = ["-std=c++17", "-O2", "-fPIC", "-ffp-contract=off", "-DCPM_NO_CLONES"]
        subprocess.run([compiler(), *flags, "-c", str(source), "-o", str(target)], check=True)
        objects.append(str(target))
    library = folder / "peaks.so"
    subprocess.run([compiler(), "-shared", *objects, "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    return tmp_path_factory.mktemp("peaks")


@pytest.fixture(scope="module")
def library(objects):
    return build(objects)


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def missed(library, maps, pads, sizes, image, opencv=False, background=True):
    """Number of channels whose peak is not the first maximum of the full map."""
    maps = np.ascontiguousarray(maps, np.float32)
    scales, channels = maps.shape[:2]
    full, places = np.empty((channels, *image), np.float32), np.empty((channels, 2), np.int32)
    geometry = np.array([[*pad[:2], *size] for pad, size in zip(pads, sizes, strict=True)], np.int32)
    numbers = np.array([*maps.shape, *image, 8, background, opencv, 0], np.int32)
    weights = np.full(scales, 1 / scales, np.float32)
    library.peaks(*map(pointer, (maps, numbers, geometry, weights, full, places)))
    numbers_only = np.where(np.isnan(full), -np.inf, full)
    first = numbers_only.transpose(0, 2, 1).reshape(channels, -1).argmax(1)  # column-major
    return int((places[:, 1] * image[0] + places[:, 0] != first).sum())


def anywhere(seed):
    """Cells of any height, and an input that lies anywhere over the image, also beside it."""
    random = np.random.default_rng(seed)
    cells, image = int(random.integers(8, 24)), tuple(int(n) for n in random.integers(300, 420, 2))
    pads, sizes = [], []
    for _ in range(int(random.integers(1, 4))):
        size = [round(side * random.uniform(0.2, 0.5)) for side in image]
        before = [int(random.integers(-side // 2, cells * 4)) for side in size]
        pads.append((*before, *(cells * 8 - b - side for b, side in zip(before, size, strict=True))))
        sizes.append(size)
    level = random.choice([-3, -1, 0, 0.2, 1, 3], size=(1, 4, 1, 1))
    noise = random.choice([0, 1e-3, 1e-2, 0.1, 1.0])
    maps = level + noise * random.standard_normal((len(sizes), 4, cells, cells))
    return maps, pads, sizes, image


def with_seams(seed):
    """Cells that hardly differ: maxima lie where the input ends inside of the image, on all four sides."""
    random = np.random.default_rng(seed)
    cells, image = int(random.integers(8, 20)), tuple(int(n) for n in random.integers(330, 420, 2))
    pads, sizes = [], []
    for _ in range(int(random.integers(1, 3))):
        size = [int(cells * 8 * random.uniform(1.1, 1.6)) for _ in image]
        before = [-int(random.uniform(0.2, 0.8) * (side - cells * 8)) for side in size]
        pads.append((*before, *(cells * 8 - b - side for b, side in zip(before, size, strict=True))))
        sizes.append(size)
    level = np.array([3, -3, 1, random.choice([-3, -1, -0.3, 0, 0.3])]).reshape(1, 4, 1, 1)
    noise = 10 ** random.uniform(-4, -0.5)
    maps = level + noise * random.standard_normal((len(sizes), 4, cells, cells))
    return maps, pads, sizes, image


def where_signs_agree():
    """A peak to which weights of both signs add on both axes; a ridge of a higher bound and a lower top."""
    signs, maps = np.array([-1, 1, 1, -1.0]), np.zeros((1, 1, 20, 20))
    maps[0, 0, 3:7, 3:7] = np.outer(signs, signs)
    maps[0, 0, 12:16] = 1.355 * signs[:, None]  # the plants below show from 1.345 to 1.365
    return maps, [(0, 0, 0, 0)], [(160, 160)], (160, 160)


def high(seed):
    """Strips one below the other, with equal values in several of them."""
    random = np.random.default_rng(seed)
    cells, image = (
        int(random.integers(8, 24)),
        (int(random.integers(1025, 2200)), int(random.integers(20, 60))),
    )
    size = [round(image[0] * random.uniform(0.05, 0.2)), round(image[1] * random.uniform(0.5, 3))]
    before = [int(random.integers(-side // 2, cells * 4)) for side in size]
    pads = (*before, *(cells * 8 - b - side for b, side in zip(before, size, strict=True)))
    maps = random.choice([-1, 0, 1], size=(1, 4, 1, 1)) + random.choice([0, 0.1]) * random.standard_normal(
        (1, 4, cells, cells)
    )
    return maps, [pads], [size], image


def with_wild_cells(seed, wild):
    """Cells that no bound holds, one to three of them."""
    random, (maps, *geometry) = np.random.default_rng(seed), anywhere(seed)
    for _ in range(seed % 3 + 1):
        maps[tuple(random.integers(0, maps.shape))] = wild
    return maps, *geometry


def wrong_peaks(library):
    """Peaks that are missed, case by case."""
    yield missed(library, *where_signs_agree(), opencv=True, background=False)
    for seed in range(60):
        yield missed(library, *with_seams(seed))
        yield missed(library, *anywhere(seed))
        yield missed(library, *with_wild_cells(seed, 3.4e38))
        yield missed(library, *high(seed))


def test_no_peak_is_missed(library):
    assert sum(wrong_peaks(library)) == 0


@pytest.mark.parametrize("opencv", [False, True])
@pytest.mark.parametrize("wild", [-np.inf, np.inf, np.nan, 3.4e38, -3.4e38])
def test_no_peak_is_missed_beside_cells_that_no_bound_holds(library, wild, opencv):
    """Weights of one sign made 0 times infinity of the other's bound, and an order of tiles that was none."""
    for seed in range(12):
        case = with_wild_cells(seed, wild)
        assert not missed(library, *case, opencv=opencv, background=bool(seed % 2))
    maps = wild * (1 - 0.03 * np.random.default_rng(0).random((1, 2, 40, 40)))
    assert not missed(library, maps, [(0, 0, 0, 0)], [(320, 320)], (400, 400), opencv=opencv)


def test_no_peak_is_missed_among_numbers_whose_rounding_is_not_relative(library):
    for seed in range(12):
        maps = 6e-41 * np.random.default_rng(seed).random((2, 1, 1, 1))
        geometry = [(0, 0, 0, 0), (3, 1, 1, 2)], [(8, 8), (4, 5)]
        assert not missed(library, maps, *geometry, (200, 300), opencv=True, background=False)


SEARCH, BOUNDS = "fuse_multiscale_peaks.cpp", "peak_bounds.cpp"
NEGATIVES = " + (double)y.negative[row] * x.negative[column];"
PLANTS = {
    "weights of one sign": (SEARCH, "(same * std::max", "(0.97 * same * std::max"),
    "negative weights": (SEARCH, NEGATIVES, ";"),
    "weights of two signs": (SEARCH, " + opposite * std::max(-(double)least, 0.0)", ""),
    "unbounded cells": (SEARCH, "kLargestCell)) return kUnbounded;", "kLargestCell)) return 0.0;"),
    "columns of a strip": (
        SEARCH,
        "for (int j = first; j < last; ++j) {\n",
        "for (int j = first; j < first + 1; ++j) {\n",
    ),
    "rows of a strip": (
        SEARCH,
        "worth(y / kPeakTile, first, last)",
        "worth(strip.y0 / kPeakTile, first, last)",
    ),
    "the first of equal ones": (
        SEARCH,
        "if (top < reached_.value()) return;",
        "if (top <= reached_.value()) return;",
    ),
    "what comes before": (
        SEARCH,
        "p_.row_major) > best_.rank) return;",
        "p_.row_major) < best_.rank) return;",
    ),
    "lanes": (
        SEARCH,
        "most = lanes[lane] > most ? lanes[lane] : most;",
        "most = lanes[0] > most ? lanes[0] : most;",
    ),
    "pieces of the background": (
        SEARCH,
        "fusion_tile(p_, piece), [](int",
        "fusion_tile(p_, 0 * piece), [](int",
    ),
    "weights of a tile": (BOUNDS, "for (int i = a; i < b; ++i) {\n", "for (int i = a; i < a + 1; ++i) {\n"),
    "cells of a tile": (BOUNDS, "cells_under(table, a, b)", "cells_under(table, a, a + 1)"),
}
ORDINARY = ("negative weights", "columns of a strip", "the first of equal ones")


@pytest.mark.parametrize(
    "plant", [name if name in ORDINARY else pytest.param(name, marks=pytest.mark.slow) for name in PLANTS]
)
@pytest.mark.usefixtures("library")
def test_a_bound_without_one_term_is_seen(tmp_path, objects, plant):
    name, right, wrong = PLANTS[plant]
    text = (CPU / name).read_text()
    assert text.count(right) == 1
    broken = build(tmp_path, objects, name, text.replace(right, wrong))
    assert any(wrong_peaks(broken))
