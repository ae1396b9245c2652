from __future__ import annotations

import struct
import time

import cv2
import numpy as np
import pytest

from cpm_repro.data.images import ImageCache, decode_image, inside, read_image
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


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    path.write_bytes(b"x")

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(np, "fromfile", refused)  # root may read everything
    with pytest.raises(UserError, match=r"x\.png: cannot be read: Permission denied"):
        read_image(path)


def test_an_avif_of_endless_pieces_of_nothing_is_refused_at_once():
    def box(kind, body):
        return struct.pack(">I4s", 8 + len(body), kind) + body

    items = b"".join(struct.pack(">HHH", number, 0, 65535) for number in range(2000))
    iloc = box(b"iloc", bytes([0, 0, 0, 0, 0, 0]) + struct.pack(">H", 2000) + items)
    entry = box(b"infe", bytes([2, 0, 0, 0]) + struct.pack(">HH4s", 0, 0, b"av01"))
    iinf = box(b"iinf", bytes(4) + struct.pack(">H", 1) + entry)
    meta = box(b"meta", bytes(4) + iinf + box(b"iprp", b"") + iloc)
    begin = time.process_time()
    data = np.frombuffer(box(b"ftyp", b"avif" + bytes(4) + b"avif") + meta, np.uint8)
    with pytest.raises(UserError, match="expected an image whose header states its size"):
        decode_image(data, "x.avif")
    assert time.process_time() - begin < 1
