from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from cpm_repro.data.images import ImageCache, declared_size, decode_image, inside, read_image
from cpm_repro.errors import UserError

ENCODINGS = {
    "png": (".png", []),
    "jpg": (".jpg", []),
    "bmp": (".bmp", []),
    "tiff": (".tiff", []),
    "lossy webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 80]),
    "lossless webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
}


@pytest.mark.parametrize("kind", ENCODINGS)
def test_declared_size(kind):
    suffix, options = ENCODINGS[kind]
    data = cv2.imencode(suffix, np.zeros((30, 47, 3), np.uint8), options)[1].ravel()
    assert declared_size(data) == (47, 30)
    for end in range(min(data.size, 64)):  # cut anywhere: another size or none, but no crash
        declared_size(data[:end])


def test_declared_size_of_headers_made_by_hand():
    extended = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + bytes([46, 0, 0, 29, 0, 0])
    big_endian = b"MM\0*" + struct.pack(">IH", 8, 2)
    big_endian += struct.pack(">HHIHH", 256, 3, 1, 47, 0) + struct.pack(">HHII", 257, 4, 1, 30)
    top_down = b"BM" + bytes(12) + struct.pack("<Iii", 40, 47, -30)
    for header in (b"GIF89a" + struct.pack("<HH", 47, 30), extended, big_endian, top_down):
        assert declared_size(np.frombuffer(header, np.uint8)) == (47, 30)


def test_a_directory_past_the_end_of_a_tiff_is_no_size():
    assert declared_size(np.frombuffer(b"II*\0" + struct.pack("<I", 1 << 31), np.uint8)) is None


@pytest.mark.parametrize("kind", ["bmp", "tiff", "lossy webp", "lossless webp"])
def test_large_pictures_of_every_format_are_refused_by_their_header(kind, monkeypatch):
    monkeypatch.setattr("cpm_repro.data.images.MAX_PIXELS", 1000)
    suffix, options = ENCODINGS[kind]
    data = cv2.imencode(suffix, np.zeros((30, 47, 3), np.uint8), options)[1].ravel()
    with pytest.raises(UserError, match="expected at most 1000 pixels, got 47 x 30"):
        decode_image(data, "bomb")


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
