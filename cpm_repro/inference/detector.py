"""Finding people: the first phase of the release's two-phase program, the person network and its peaks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy import ndimage

from cpm_repro.config import FULL_CROP
from cpm_repro.data.augment import BORDER
from cpm_repro.device import usable_device
from cpm_repro.errors import UserError
from cpm_repro.image_file import MAX_PIXELS, read_image
from cpm_repro.inference.decode import check_finite
from cpm_repro.inference.fast_convolution import fast_convolutions
from cpm_repro.inference.images import as_bgr
from cpm_repro.inference.places import WHOLE_IMAGE_SHARE, Place
from cpm_repro.inference.weights import load_model
from cpm_repro.model import PoseMachine

THRESHOLD = 0.5
"""A person is where the map is higher than this and than its eight neighbours."""

MAX_ASPECT = 16
"""Wider pictures, brought to the network's height, would need gigabytes."""


@dataclass(frozen=True)
class PersonMap:
    """The person network's belief on the scaled image, without the padding."""

    belief: np.ndarray  # (h, w) float32, one value per pixel of the scaled image
    scale: tuple[float, float]  # scaled over original width and height


class PersonDetector:
    """Finds the centres of the people in an image.

    Args:
        weights: a person network, or a weight file or run folder of one (``person_4stage``).
        arch: architecture the weights must be of; None takes what the file says.
        device: where to run; None takes a GPU when there is one.
        threshold: smallest peak that counts.
        height: images are brought to this height in pixels; None takes the crop that the network was trained
            on, 368 in the release.

    Raises:
        UserError: weights that cannot be used or are of a pose network; a height or threshold that is none.
    """

    def __init__(
        self,
        weights: str | Path | PoseMachine,
        arch: str | None = None,
        *,
        device: str | None = None,
        threshold: float = THRESHOLD,
        height: int | None = None,
    ) -> None:
        if height is not None and height not in range(1, MAX_PIXELS):
            raise UserError(f"height: wanted a whole number of pixels, at least 1, got {height!r}")
        if isinstance(threshold, str) or math.isnan(threshold):
            raise UserError(f"threshold: wanted a number, got {threshold!r}")
        net, crop = _person_net(weights, arch)
        self.device = usable_device(device)
        net = fast_convolutions(net.to(self.device)).eval()
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.threshold = threshold
        self.height = crop if height is None else int(height)

    def __call__(
        self, image: np.ndarray | str | Path, *, rgb: bool = False, share: float = WHOLE_IMAGE_SHARE
    ) -> list[Place]:
        """The people of an image, the surest first.

        The network says where people are and not how large: as in the release, everyone is taken to fill a
        window of the image's height, of which ``share`` is the person.

        Args:
            image: (H, W, 3) uint8 BGR array (RGB with ``rgb``), or the path of an image file.
            rgb: the array's colour order.
            share: a person's height over the window's; the pose network's `person_share`.

        Raises:
            UserError: an image that cannot be read, or is wider than ``MAX_ASPECT`` times its height; the
                network's arithmetic overflows.
            TypeError, ValueError: an array that is no image.
        """
        array = read_image(image, exif=True) if isinstance(image, (str, Path)) else as_bgr(image, rgb=rgb)
        found = self.belief_map(array)
        assumed = f"a height of {share:.0%} of the image's, as the detector finds centres alone"
        extent = max(1.0, share * array.shape[0])
        return [
            Place(_to_image(x, y, found.scale), extent, assumed, score)
            for x, y, score in local_peaks(found.belief, self.threshold)
        ]

    def belief_map(self, image: np.ndarray) -> PersonMap:
        """The last stage's map for (H, W, 3) uint8 BGR, enlarged to the pixels of the scaled image."""
        scaled = self._scaled(image)
        height, width = scaled.shape[:2]
        padded = cv2.copyMakeBorder(
            scaled, 0, -height % 8, 0, -width % 8, cv2.BORDER_CONSTANT, value=(BORDER,) * 3
        )
        belief = self._run(padded)
        check_finite(belief, self.net.arch)
        large = cv2.resize(belief, padded.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        scale = (width / image.shape[1], height / image.shape[0])
        return PersonMap(np.ascontiguousarray(large[:height, :width]), scale)

    def _scaled(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        if width > MAX_ASPECT * height:
            raise UserError(
                f"image: wanted at most {MAX_ASPECT} times as wide as high to look for people in, "
                f"got {width}x{height}"
            )
        size = (max(1, round(width * self.height / height)), self.height)
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC))

    @torch.inference_mode()
    def _run(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (h, w) float32 of the last stage."""
        data = torch.from_numpy(image).to(self.device).permute(2, 0, 1)[None]
        data = data.float().sub_(128).mul_(1 / 256).contiguous(memory_format=torch.channels_last)
        return np.asarray(self.net(data)[-1][0, 0].float().cpu().numpy())


def as_detector(given: object, device: str | None = None) -> PersonDetector | None:
    """A detector, the one that weights make, or None; ``device`` is the weights'.

    Raises:
        UserError: something else, which could find nobody.
    """
    if given is None or isinstance(given, PersonDetector):
        return given
    if isinstance(given, str | Path):
        return PersonDetector(given, device=device)
    raise UserError(
        f"detector: wanted weights of a person network or a PersonDetector, got {type(given).__name__}"
    )


def local_peaks(belief: np.ndarray, threshold: float = THRESHOLD) -> list[tuple[int, int, float]]:
    """(x, y, height) of every pixel that is its 3x3 neighbourhood's maximum and above ``threshold``.

    Highest first. Equal neighbours are one peak, at its first pixel in row-major order: a flat top is one
    person.

    Args:
        belief: (h, w) float.
        threshold: values must be greater.
    """
    top = (belief == ndimage.maximum_filter(belief, size=3)) & (belief > threshold)
    labels, _ = ndimage.label(top, structure=np.ones((3, 3)))
    groups, firsts = np.unique(labels, return_index=True)  # the first pixel of each group, row by row
    rows, columns = np.unravel_index(firsts[groups > 0], belief.shape)
    peaks = [(int(x), int(y), float(belief[y, x])) for y, x in zip(rows, columns, strict=True)]
    return sorted(peaks, key=lambda peak: -peak[2])


def _to_image(x: float, y: float, scale: tuple[float, float]) -> tuple[float, float]:
    """Pixel of the scaled image to pixel of the image; pixel centres at whole numbers in both."""
    return (x + 0.5) / scale[0] - 0.5, (y + 0.5) / scale[1] - 0.5


def _person_net(weights: str | Path | PoseMachine, arch: str | None) -> tuple[PoseMachine, int]:
    """The network and the crop it was trained on."""
    if isinstance(weights, PoseMachine):
        net, crop = weights, FULL_CROP
    else:
        model = load_model(weights, arch)
        net, crop = model.net, model.augment.crop
    if net.input_channels != 3:
        name = net.arch if isinstance(weights, PoseMachine) else weights
        raise UserError(f"{name}: {net.arch} finds parts, not people: wanted a person network")
    return net, crop
