"""Small videos for the tests: MJPG in AVI (readable to the last byte that is there) or MPEG-4 in MP4."""

import cv2
import numpy as np


def frame(index, size=(96, 64)):
    """A grey picture with a bright square that moves to the right."""
    width, height = size
    image = np.full((height, width, 3), 60, np.uint8)
    x = 2 * index % max(1, width - 16)
    image[height // 3 : height // 3 + 12, x : x + 12] = (80, 160, 250)
    return image


def make_video(path, count=20, rate=25.0, size=(96, 64)):
    """Write ``count`` frames; returns the path."""
    code = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), code, rate, size)
    assert writer.isOpened()
    for index in range(count):
        writer.write(frame(index, size))
    writer.release()
    return path


def cut(path, target, share):
    """The first ``share`` of a file's bytes."""
    data = path.read_bytes()
    target.write_bytes(data[: int(share * len(data))])
    return target


def read_all(path):
    """(frames, frames per second) of a video."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        there, image = capture.read()
        if not there:
            return frames, capture.get(cv2.CAP_PROP_FPS)
        frames.append(image)
