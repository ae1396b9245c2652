"""The everyday way to run a pose machine on an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from cpm_repro.data.augment import invert_matrix, place_matrix, warp_image
from cpm_repro.data.images import read_image
from cpm_repro.errors import UserError
from cpm_repro.inference.decode import peaks, to_image
from cpm_repro.inference.images import as_bgr
from cpm_repro.inference.network_input import network_input
from cpm_repro.inference.result import People, Person
from cpm_repro.inference.weights import load_model
from cpm_repro.skeleton import CPM14, FLIC9, Skeleton

WHOLE_IMAGE_SHARE = 0.8
"""Without a box, a person is taken to be this share of the image's longer side, in the middle."""

Box = Sequence[float]


class PoseEstimator:
    """Estimates the pose of people whose place in the image is known or assumed.

    Args:
        weights: run folder or checkpoint (see :func:`cpm_repro.inference.weights.load_model`).
        arch: architecture the weights must be of; None takes what the file says.
        device: where to run; None takes a GPU when there is one.
        stages: stop after so many stages.

    Raises:
        UserError: weights that cannot be used.
    """

    def __init__(
        self,
        weights: str | Path,
        arch: str | None = None,
        *,
        device: str | None = None,
        stages: int | None = None,
    ) -> None:
        model = load_model(weights, arch)
        if model.net.input_channels != 4:
            raise UserError(f"{weights}: {model.net.arch} finds people, not parts: wanted a pose network")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.net = model.net.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.augment = model.augment
        self.stages = stages
        self.skeleton = model.skeleton or _skeleton(self.net.parts)

    def __call__(
        self,
        image: np.ndarray | str | Path,
        *,
        boxes: Sequence[Box] | None = None,
        rgb: bool = False,
        keep_maps: bool = False,
    ) -> People:
        """Estimate one pose per box.

        Args:
            image: (H, W, 3) uint8 BGR array (RGB with ``rgb``), or the path of an image file.
            boxes: (x0, y0, x1, y1) of each person, pixels; None assumes one person who fills
                ``WHOLE_IMAGE_SHARE`` of the image, in its middle.
            rgb: the array's colour order.
            keep_maps: keep each person's crop and the belief maps of every stage.

        Returns:
            People in the order of the boxes, in image pixels.

        Raises:
            UserError: an image file that cannot be read, a box without area.
            TypeError, ValueError: an array that is no image.
        """
        source = str(image) if isinstance(image, (str, Path)) else ""
        array = read_image(image, exif=True) if isinstance(image, (str, Path)) else as_bgr(image, rgb=rgb)
        places, assumed = _places(array, boxes)
        if not places:
            return People([], array, self.skeleton, source)
        crops, matrices = zip(*(self._crop(array, center, extent) for center, extent in places), strict=True)
        maps = self._maps(np.stack(crops))
        xy, score = peaks(maps[-1].cpu())
        inverse = torch.from_numpy(np.stack([invert_matrix(matrix) for matrix in matrices]))
        keypoints = to_image(xy, inverse).numpy()
        people = [
            Person(
                keypoints=keypoints[index],
                scores=score[index].numpy(),
                names=self.skeleton.parts,
                center=center,
                extent=extent,
                assumed=assumed,
                crop=crops[index] if keep_maps else None,
                belief_maps=tuple(stage[index].cpu().numpy() for stage in maps) if keep_maps else (),
            )
            for index, (center, extent) in enumerate(places)
        ]
        return People(people, array, self.skeleton, source)

    def _crop(
        self, image: np.ndarray, center: tuple[float, float], extent: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The network's view of one person, and the 2x3 matrix from image to crop pixels."""
        matrix = place_matrix(np.array(center), extent, self.augment)
        return warp_image(image, matrix, self.augment.crop), matrix

    @torch.inference_mode()
    def _maps(self, crops: np.ndarray) -> list[torch.Tensor]:
        middle = (self.augment.crop - 1) / 2
        center = torch.full((len(crops), 2), middle, dtype=torch.float32, device=self.device)
        data = network_input(torch.from_numpy(crops).to(self.device), center)
        maps: list[torch.Tensor] = self.net(
            data.contiguous(memory_format=torch.channels_last), stages=self.stages
        )
        return maps


def _places(
    image: np.ndarray, boxes: Sequence[Box] | None
) -> tuple[list[tuple[tuple[float, float], float]], str]:
    """(centre, extent) per person, and what was assumed."""
    height, width = image.shape[:2]
    if boxes is None:
        extent = max(1.0, WHOLE_IMAGE_SHARE * max(height, width))
        place = (((width - 1) / 2, (height - 1) / 2), extent)
        return [place], f"one person in the middle, {WHOLE_IMAGE_SHARE:.0%} of the image's longer side"
    places = []
    for box in boxes:
        if len(box) != 4 or not np.all(np.isfinite(box)):
            raise UserError(f"box: wanted four finite numbers x0 y0 x1 y1, got {tuple(box)}")
        x0, y0, x1, y1 = (float(value) for value in box)
        if x1 <= x0 or y1 <= y0:
            raise UserError(f"box: wanted x0 < x1 and y0 < y1, got {tuple(box)}")
        if x1 < 0 or y1 < 0 or x0 > width - 1 or y0 > height - 1:
            raise UserError(f"box: {tuple(box)} lies outside the {width}x{height} image")
        places.append((((x0 + x1) / 2, (y0 + y1) / 2), max(x1 - x0, y1 - y0)))
    return places, ""


def _skeleton(parts: int) -> Skeleton:
    """The body that a network of so many parts was most likely trained on, where its file does not say."""
    for skeleton in (CPM14, FLIC9):
        if len(skeleton) == parts:
            return skeleton
    names = tuple(f"part_{index}" for index in range(parts))
    return Skeleton("custom", names, flip_pairs=(), limbs=())
