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
from cpm_repro.inference.detector import PersonDetector
from cpm_repro.inference.images import as_bgr
from cpm_repro.inference.network_input import network_input
from cpm_repro.inference.places import Box, Place, Point, places_from_boxes, places_from_centers, whole_image
from cpm_repro.inference.result import People, Person
from cpm_repro.inference.weights import load_model
from cpm_repro.skeleton import CPM14, FLIC9, Skeleton


class PoseEstimator:
    """Estimates the pose of people whose place in the image is known or assumed.

    Args:
        weights: run folder or checkpoint (see :func:`cpm_repro.inference.weights.load_model`).
        arch: architecture the weights must be of; None takes what the file says.
        device: where to run; None takes a GPU when there is one.
        stages: stop after so many stages.
        detector: finds the people of images that come without boxes or centres; weights of a person network
            make one.

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
        detector: PersonDetector | str | Path | None = None,
    ) -> None:
        model = load_model(weights, arch)
        if model.net.input_channels != 4:
            raise UserError(f"{weights}: {model.net.arch} finds people, not parts: wanted a pose network")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.net = model.net.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.augment = model.augment
        self.stages = stages
        self.skeleton = model.skeleton or _skeleton(self.net.parts)
        if isinstance(detector, (str, Path)):
            detector = PersonDetector(detector, device=device)
        self.detector = detector

    def __call__(
        self,
        image: np.ndarray | str | Path,
        *,
        boxes: Sequence[Box] | None = None,
        centers: Sequence[Point] | None = None,
        heights: Sequence[float] | float | None = None,
        rgb: bool = False,
        keep_maps: bool = False,
    ) -> People:
        """Estimate one pose per person; all people of the image go through the network in one batch.

        Args:
            image: (H, W, 3) uint8 BGR array (RGB with ``rgb``), or the path of an image file.
            boxes: (x0, y0, x1, y1) of each person, pixels.
            centers: (x, y) of each person, pixels, instead of boxes.
            heights: the people's heights in pixels, with ``centers``; see `places_from_centers`.
            rgb: the array's colour order.
            keep_maps: keep each person's crop and the belief maps of every stage.

        Where neither boxes nor centres are given the detector looks for people; without one, one person who
        fills most of the image is assumed. What was assumed is in each person's ``assumed``.

        Returns:
            People in the order of the boxes or centres, or the surest detection first; image pixels.

        Raises:
            UserError: an image file that cannot be read, places that cannot be (see `places`).
            TypeError, ValueError: an array that is no image.
        """
        source = str(image) if isinstance(image, (str, Path)) else ""
        array = read_image(image, exif=True) if isinstance(image, (str, Path)) else as_bgr(image, rgb=rgb)
        places = self._places(array, boxes, centers, heights)
        if not places:
            return People([], array, self.skeleton, source)
        crops, matrices = zip(*(self._crop(array, place) for place in places), strict=True)
        maps = self._maps(np.stack(crops))
        xy, score = peaks(maps[-1].cpu())
        inverse = torch.from_numpy(np.stack([invert_matrix(matrix) for matrix in matrices]))
        keypoints = to_image(xy, inverse).numpy()
        people = [
            Person(
                keypoints=keypoints[index],
                scores=score[index].numpy(),
                names=self.skeleton.parts,
                center=place.center,
                extent=place.extent,
                assumed=place.assumed,
                detection=place.detection,
                crop=crops[index] if keep_maps else None,
                belief_maps=tuple(stage[index].cpu().numpy() for stage in maps) if keep_maps else (),
            )
            for index, place in enumerate(places)
        ]
        return People(people, array, self.skeleton, source)

    def _places(
        self,
        image: np.ndarray,
        boxes: Sequence[Box] | None,
        centers: Sequence[Point] | None,
        heights: Sequence[float] | float | None,
    ) -> list[Place]:
        """Where the people are: as given, as detected, or as assumed."""
        if boxes is not None and centers is not None:
            raise ValueError("give either boxes or centers, got both")
        if heights is not None and centers is None:
            raise ValueError("heights go with centers, got heights alone")
        size = image.shape[:2]
        if boxes is not None:
            return places_from_boxes(boxes, size)
        if centers is not None:
            return places_from_centers(centers, heights, size)
        if self.detector is not None:
            return self.detector(image, share=self.augment.fill)
        return [whole_image(size)]

    def _crop(self, image: np.ndarray, place: Place) -> tuple[np.ndarray, np.ndarray]:
        """The network's view of one person, and the 2x3 matrix from image to crop pixels."""
        matrix = place_matrix(np.array(place.center), place.extent, self.augment)
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


def _skeleton(parts: int) -> Skeleton:
    """The body that a network of so many parts was most likely trained on, where its file does not say."""
    for skeleton in (CPM14, FLIC9):
        if len(skeleton) == parts:
            return skeleton
    names = tuple(f"part_{index}" for index in range(parts))
    return Skeleton("custom", names, flip_pairs=(), limbs=())
