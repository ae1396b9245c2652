"""Small data sets in the layouts that the release's procedure reads, and the command that runs it."""

import cv2
import numpy as np
import scipy.io

from cpm_repro.cli import main


def struct(**fields):
    array = np.empty((1, 1), dtype=[(name, object) for name in fields])
    for name, value in fields.items():
        array[name][0, 0] = value
    return array


def structs(items):
    names = list(dict.fromkeys(name for item in items for name in item))
    array = np.empty((1, len(items)), dtype=[(name, object) for name in names])
    for index, item in enumerate(items):
        for name in names:
            array[name][0, index] = item.get(name, np.zeros((0, 0)))
    return array


def noise(path, height, width, seed):
    """A picture of large random blots."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    image = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)
    return cv2.imread(str(path))


def write_lspet(folder, people):
    """LSP-extended's layout with random joints, all of them labelled."""
    joints = np.ones((14, 3, people))
    joints[:, :2] = np.random.default_rng(5).uniform(5, 60, (14, 2, people))
    for index in range(people):
        noise(folder / "images" / f"im{index + 1:05d}.jpg", 70, 64, index)
    scipy.io.savemat(folder / "joints.mat", {"joints": joints})
    return folder


def run(*arguments):
    return main(["eval", *map(str, arguments), "--procedure", "release"])
