from __future__ import annotations

import struct
import time

import cv2
import numpy as np
import pytest

from cpm_repro.errors import UserError
from cpm_repro.image_file import decode_image, read_image


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


def test_a_whole_picture_of_other_numbers_is_not_called_damaged():
    data = cv2.imencode(".tiff", np.full((6, 5, 3), 0.5, np.float32))[1]
    with pytest.raises(UserError, match=r"^x\.tif: expected an image of 8 or 16 bits, got one of float32"):
        decode_image(data, "x.tif")
    jpeg = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1]
    with pytest.raises(UserError, match=r"^x\.jpg: expected an image, got \d+ bytes that do not decode"):
        decode_image(jpeg[: len(jpeg) // 2].copy(), "x.jpg")


def test_a_picture_that_no_memory_holds_is_not_called_damaged(monkeypatch):
    data = cv2.imencode(".png", np.zeros((64, 65, 3), np.uint8))[1]
    # The array that OpenCV decodes into is of the size that cv2.resize is asked for here.
    monkeypatch.setattr(cv2, "imdecode", lambda *_: cv2.resize(np.zeros((2, 2), np.uint8), (2**20, 2**30)))
    words = r"^x\.png: a picture of 65 x 64 does not fit into memory \(tried to allocate \d+ bytes\): give a"
    with pytest.raises(UserError, match=words):
        decode_image(data, "x.png")
