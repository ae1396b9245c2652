from __future__ import annotations

import cv2
import numpy as np
import pytest

from cpm_repro.data.image_cache import ImageCache


def test_cache_keeps_within_its_budget(tmp_path):
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((10, 10, 3), np.uint8))
    cache = ImageCache(budget=450)  # one image is 300 bytes
    first, second = cache.read(tmp_path / "a.png"), cache.read(tmp_path / "b.png")
    assert cache.read(tmp_path / "a.png") is first
    assert cache.read(tmp_path / "b.png") is not second
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1
