"""Data sets of random people on noise, as the conversions read them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import scipy.io

from cpm_repro.data.record import PersonRecord
from cpm_repro.data.record_json import write_records

PICTURES = 6


def write_noise(path: Path, seed: int) -> None:
    """An image of 80 x 96 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, (96, 80, 3), dtype=np.uint8))


def write_record_file(folder: Path, people: int) -> None:
    """``folder``/records.json of so many people on the images of ``folder``/pictures."""
    draw, records = np.random.default_rng(0), []
    for index in range(PICTURES):
        write_noise(folder / "pictures" / f"{index}.png", index)
    for index in range(people):
        joints = draw.integers(5, 70, (16, 3)).astype(float)
        joints[:, 2] = 1
        records.append(
            PersonRecord(
                dataset="MPI",
                img_path=f"{index % PICTURES}.png",
                img_width=80,
                img_height=96,
                objpos=joints[0, :2],
                joint_self=joints,
                scale=0.4,
                joint_others=np.zeros((0, 16, 3)),
                scale_other=np.zeros(0),
                objpos_other=np.zeros((0, 2)),
                is_validation=index % 5 == 0,
                annolist_index=index % PICTURES + 1,
                people_index=index // PICTURES + 1,
            )
        )
    write_records(folder / "records.json", records)


def write_lspet(folder: Path, people: int) -> None:
    """``folder``/lspet_dataset in the layout of LSP extended: joints.mat and an image for each person."""
    own = folder / "lspet_dataset"
    for index in range(people):
        write_noise(own / "images" / f"im{index + 1:05}.jpg", index)
    joints = np.ones((14, 3, people))
    joints[:, :2] = np.random.default_rng(0).uniform(5, 75, (14, 2, people))
    scipy.io.savemat(own / "joints.mat", {"joints": joints})
