"""Photographs that more than one file of tests takes."""

import cv2
import numpy as np
import pytest


@pytest.fixture
def images(tmp_path):
    for number in range(7):
        image = np.random.default_rng(number).integers(0, 256, (90, 80, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"im{number}.png"), image)
    return tmp_path
