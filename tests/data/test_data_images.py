from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from cpm_repro.data.images import ImageCache, declared_size, decode_image, inside, read_image
from cpm_repro.errors import UserError


@pytest.mark.parametrize("kind", [".png", ".jpg"])
def test_declared_size(kind):
    data = cv2.imencode(kind, np.zeros((30, 47, 3), np.uint8))[1]
    assert declared_size(data) == (47, 30)


def test_a_bomb_is_refused_before_it_is_decoded():
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    chunk = (
        struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    data = np.frombuffer(b"\x89PNG\r\n\x1a\n" + chunk, np.uint8)
    with pytest.raises(UserError, match=r"bomb\.png: expected at most .* got 60000 x 60000"):
        decode_image(data, "bomb.png")


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
