from __future__ import annotations

import cv2
import numpy as np
import pytest

from cpm_repro.data.images import ImageCache, inside, read_image
from cpm_repro.errors import UserError


def test_cache_keeps_within_its_budget(tmp_path):
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((10, 10, 3), np.uint8))
    cache = ImageCache(budget=450)  # one image is 300 bytes
    first, second = cache.read(tmp_path / "a.png"), cache.read(tmp_path / "b.png")
    assert cache.read(tmp_path / "a.png") is first
    assert cache.read(tmp_path / "b.png") is not second
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1


def test_paths_stay_inside(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.png").write_text("x")
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "secret.png")
    assert inside(tmp_path / "data", "a/b.png") == tmp_path / "data" / "a" / "b.png"
    for path in ("../secret.png", str(tmp_path / "secret.png"), "link.png"):
        with pytest.raises(UserError, match="leaves it"):
            inside(tmp_path / "data", path)


def test_missing_image(tmp_path):
    with pytest.raises(UserError, match=r"none\.png"):
        read_image(tmp_path / "none.png")
