"""MPII's and FLIC's MATLAB files in small: structs, people and whole files."""

from __future__ import annotations

import numpy as np
import scipy.io


def struct(**fields) -> np.ndarray:
    """One MATLAB struct."""
    array = np.empty((1, 1), dtype=[(name, object) for name in fields])
    for name, value in fields.items():
        array[name][0, 0] = value
    return array


def structs(items: list[dict]) -> np.ndarray:
    """A 1 x n struct array; MATLAB gives all elements the union of fields, empty where unset."""
    names = list(dict.fromkeys(name for item in items for name in item)) or ["none"]
    array = np.empty((1, len(items)), dtype=[(name, object) for name in names])
    for index, item in enumerate(items):
        for name in names:
            array[name][0, index] = item.get(name, np.zeros((0, 0)))
    return array


def points(ids, visible=None) -> np.ndarray:
    rows = [{"x": 100.0 + 3 * i, "y": 50.5 + 7 * i, "id": float(i)} for i in ids]
    for row, flag in zip(rows, visible or [], strict=False):
        if flag is not None:
            row["is_visible"] = flag
    return struct(point=structs(rows))


def person(ids=range(16), visible=None, scale=2.5, **extra) -> dict:
    return {
        "annopoints": points(ids, visible),
        "scale": scale,
        "objpos": struct(x=120.0, y=90.0),
        "x1": 80.0,
        "y1": 40.0,
        "x2": 95.0,
        "y2": 60.0,
        **extra,
    }


def write_mpii(path, images: list[tuple[str, list[dict]]], train: list[int]) -> None:
    annolist = structs(
        [
            {"image": struct(name=name), "annorect": structs(people) if people else np.zeros((0, 0))}
            for name, people in images
        ]
    )
    release = struct(annolist=annolist, img_train=np.array([train], float), version="12")
    scipy.io.savemat(path, {"RELEASE": release})


def flic_example(swap: bool, **changes) -> dict:
    coords = np.full((2, 29), np.nan)
    xs = [60.0, 70, 75, 40, 30, 25, 55, 45, 52, 48, 50]
    if swap:
        xs = [40.0, 30, 25, 60, 70, 75, 45, 55, 48, 52, 50]
    for column, x, y in zip((0, 1, 2, 3, 4, 5, 6, 9, 12, 13, 16), xs, range(30, 41), strict=True):
        coords[:, column] = x, y
    return {
        "filepath": "f.jpg", "coords": coords, "torsobox": np.array([[35.0, 20, 65, 120]]),
        "istrain": 1.0, "istest": 0.0, **changes,
    }  # fmt: skip
