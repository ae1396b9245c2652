"""The everyday way to run a pose machine on images."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast, overload

import numpy as np
import torch
from torch import Tensor

from cpm_repro.config import person_share
from cpm_repro.data.augment import invert_matrix, place_matrix, warp_image
from cpm_repro.device import usable_device
from cpm_repro.errors import UserError
from cpm_repro.inference.compiled import CompiledNetwork
from cpm_repro.inference.crop_beliefs import CropBeliefs
from cpm_repro.inference.decode import average_views, check_finite, highest, sub_pixel, to_image
from cpm_repro.inference.detector import PersonDetector, as_detector
from cpm_repro.inference.fast_convolution import fast_convolutions
from cpm_repro.inference.pipeline import read_ahead
from cpm_repro.inference.places import Box, Place, Point
from cpm_repro.inference.result import People, Person
from cpm_repro.inference.seen import Image, Seen, Told, decoded, see
from cpm_repro.inference.settings import check_settings
from cpm_repro.inference.smoothing import PoseSmoother, as_smoother
from cpm_repro.inference.video import Frame, VideoReader
from cpm_repro.inference.weights import bundled_weights, load_model
from cpm_repro.skeleton import CPM14, FLIC9, Skeleton

_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}

SEARCH_EVERY = 25
"""In a video of which no places are known, the frames from one search for the person to the next."""

IMAGES_AT_ONCE = 4
"""Most frames or photographs of a long row in one batch: one of 24 megapixels is 72 MB in memory."""


class PoseEstimator:
    """Estimates the pose of people whose place in the image is known or assumed.

    One estimator may be called from several threads at once.

    Args:
        weights: run folder or weight file (see :func:`cpm_repro.inference.weights.load_model`); None takes
            the small network that ships with the package.
        arch: architecture the weights must be of; None takes what the file says.
        device: where to run; None takes a GPU when there is one.
        stages: stop after so many stages; the later ones cost nothing.
        scales: how large to show the person, relative to the size the network was trained on; beliefs are
            averaged over all. The release's own seven-scale procedure is not this one.
        precision: "float32", or "bf16" for bfloat16 weights and activations, faster where the processor has
            them.
        flip_test: also look at the mirror image and average.
        sub_pixel: see :func:`cpm_repro.inference.decode.sub_pixel`; whole crop pixels otherwise.
        batch: most crops in one pass through the network; with ``compile`` filled up to a power of two.
        compile: on a GPU, torch.compile and CUDA graphs for 1, 2, 4, ... crops (see
            :class:`cpm_repro.inference.compiled.CompiledNetwork`). A CPU refuses: there it is slower.
        detector: finds the people of images that come without boxes or centres; weights of a person network
            make one.

    Attributes:
        assumed: what was assumed of weights whose file does not say how they were trained; else empty.

    Raises:
        UserError: weights or settings that cannot be used.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        arch: str | None = None,
        *,
        device: str | None = None,
        stages: int | None = None,
        scales: Sequence[float] = (1.0,),
        precision: str = "float32",
        flip_test: bool = False,
        sub_pixel: bool = False,
        batch: int = 8,
        compile: bool = False,
        detector: PersonDetector | str | Path | None = None,
    ) -> None:
        self.weights = Path(weights) if weights is not None else bundled_weights()
        self.device = usable_device(device)
        self.scales = check_settings(scales, precision, batch)
        if compile and self.device.type == "cpu":
            raise UserError(
                "compile: wanted a GPU, got the CPU, where convolutions through tiles are faster without"
            )
        model = load_model(self.weights, arch)
        if model.net.input_channels != 4:
            raise UserError(
                f"{self.weights}: {model.net.arch} finds people, not parts: wanted a pose network"
            )
        if stages is not None and stages not in range(1, model.net.stages + 1):
            raise UserError(f"stages: {self.weights} has 1 to {model.net.stages}, got {stages!r}")
        self.dtype = _DTYPES[precision]
        net = fast_convolutions(model.net.to(self.device, self.dtype))
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._compiled = CompiledNetwork(self.net, stages) if compile else None
        self.augment = model.augment
        self.assumed = model.assumed
        self.stages = stages
        self.flip_test = flip_test
        self.sub_pixel = sub_pixel
        self.batch = int(batch)
        self.skeleton = model.skeleton or _skeleton(self.net.parts)
        self.detector = as_detector(detector, device)

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is an iterable too; it is taken as a path
        self,
        image: Image,
        *,
        boxes: Sequence[Box] | None = None,
        centers: Sequence[Point] | None = None,
        heights: Sequence[float] | float | None = None,
        whole_image: bool = False,
        rgb: bool = False,
        keep_maps: bool = False,
    ) -> People: ...

    @overload
    def __call__(
        self,
        image: Iterable[Image],
        *,
        boxes: Iterable[Sequence[Box] | None] | None = None,
        whole_image: bool = False,
        rgb: bool = False,
        keep_maps: bool = False,
    ) -> list[People]: ...

    def __call__(
        self,
        image: Image | Iterable[Image],
        *,
        boxes: Any = None,
        centers: Sequence[Point] | None = None,
        heights: Sequence[float] | float | None = None,
        whole_image: bool = False,
        rgb: bool = False,
        keep_maps: bool = False,
    ) -> People | list[People]:
        """Estimate one pose per person.

        Args:
            image: the path of an image file; an array (H, W), (H, W, 3) or (H, W, 4), uint8 or uint16, BGR
                (RGB with ``rgb``); or several of these: an iterable, an array (N, H, W, 3).
            boxes: (x0, y0, x1, y1) of each person, pixels. Of several images: one such list each, or None.
            centers: (x, y) of each person of one image, pixels, instead of boxes.
            heights: the people's heights in pixels, with ``centers``; see `places_from_centers`.
            whole_image: one person who fills each image, 80 % of its longer side (`places.whole_image`).
            rgb: the arrays' colour order.
            keep_maps: keep each person's crop and the belief maps of every stage.

        Where nothing of that is given the detector looks for people; without one, one person is
        assumed, and three places and sizes are tried, in a wide image seven, of which the one with the
        highest sum of the parts' scores is kept (see `places.tried_places`): so many times the work. What was
        assumed is in each person's ``assumed``.

        Returns:
            People in the order of the boxes or centres, or the surest detection first; image pixels. Of
            several images, a list of these.

        Raises:
            UserError: an image file that cannot be read, places that cannot be (see `places`): of a file,
                its name first; weights with which the arithmetic overflows.
            TypeError, ValueError: an array that is no image, places given in two ways.
        """
        if _is_one(image):
            given = (boxes, centers, heights)
            seen = self.look(cast(Image, image), *given, whole_image=whole_image, rgb=rgb)
            return next(self.estimate([seen], keep_maps=keep_maps))
        if centers is not None or heights is not None:
            raise ValueError("centers and heights are of one image: give several images boxes")
        several = cast(Iterable[Image], image)
        options = {"whole_image": whole_image, "rgb": rgb, "keep_maps": keep_maps}
        return list(self.stream(several, boxes=boxes, **options))

    def stream(
        self,
        images: Iterable[Image],
        *,
        boxes: Iterable[Sequence[Box] | None] | None = None,
        whole_image: bool = False,
        rgb: bool = False,
        keep_maps: bool = False,
    ) -> Iterator[People]:
        """Estimate image after image, as :meth:`__call__` does, ``batch`` images in memory at a time.

        Raises:
            ValueError: fewer or more lists of boxes than images; else as :meth:`__call__`.
        """
        pairs = _with_boxes(images, boxes)
        while group := list(itertools.islice(pairs, self.batch)):
            seen = [self.look(*pair, whole_image=whole_image, rgb=rgb) for pair in group]
            yield from self.estimate(seen, keep_maps=keep_maps)

    def video(
        self,
        source: str | Path | int | VideoReader,
        *,
        boxes: Sequence[Box] | None = None,
        centers: Sequence[Point] | None = None,
        heights: Sequence[float] | float | None = None,
        whole_image: bool = False,
        smooth: PoseSmoother | bool = False,
        keep_maps: bool = False,
    ) -> Generator[People, None, None]:
        """Estimate a video's or camera's frames, which are decoded in a thread of their own meanwhile.

        Memory does not depend on the length: a dozen frames at most are held. Without places and detector,
        one person is looked for, as in an image, in every 25th frame, and taken to stay there.

        Args:
            source: a video file, the number of a camera, or a reader of one.
            boxes, centers, heights, whole_image: the people's places in every frame, as for images.
            smooth: True, or a smoother: steadier joints (see :mod:`cpm_repro.inference.smoothing`).
            keep_maps: as for images.

        Yields:
            People of each frame, with ``frame`` and ``time``.

        Raises:
            UserError: a video that cannot be opened, ``smooth`` of another kind. A video that ends too early
                is a UserWarning at its end.
        """
        smoother = as_smoother(smooth)
        with source if isinstance(source, VideoReader) else VideoReader(source) as reader:
            group = 1 if reader.live else min(self.batch, IMAGES_AT_ONCE)
            look = self._look_at_frames(reader.name, Told(boxes, centers, heights, whole_image))
            with closing(read_ahead(reader, depth=2)) as frames:
                while batch := list(itertools.islice(frames, group)):
                    found = self.estimate([look(frame) for frame in batch], keep_maps=keep_maps)
                    for frame, people in zip(batch, found, strict=True):
                        people.source, people.frame, people.time = reader.name, frame.index, frame.time
                        people[:] = smoother(people, frame.time) if smoother else people
                        yield people
            if reader.problem and reader is not source:
                warnings.warn(reader.problem, UserWarning, stacklevel=2)

    def _look_at_frames(self, source: str, told: Told) -> Callable[[Frame], Seen]:
        """What looks at frame after frame; where one person was found last is where he is looked at next."""
        searched: list[Place] = []

        def look(frame: Frame) -> Seen:
            nonlocal searched
            seen = self._see(frame.image, source, told)
            if not seen.one_person:
                return seen
            if frame.index % SEARCH_EVERY == 0:
                searched = [self._surest(seen)]
            return replace(seen, places=searched, one_person=False)

        return look

    def look(
        self,
        image: Image,
        boxes: Sequence[Box] | None,
        centers: Sequence[Point] | None = None,
        heights: Sequence[float] | float | None = None,
        *,
        whole_image: bool = False,
        rgb: bool = False,
    ) -> Seen:
        """The first half of :meth:`__call__`: decode an image and find the places of its people."""
        return self._see(*decoded(image, rgb=rgb), Told(boxes, centers, heights, whole_image))

    def _see(self, array: np.ndarray, source: str, told: Told) -> Seen:
        return see(array, source, told, self.detector, person_share(self.augment))

    def estimate(self, seen: Sequence[Seen], *, keep_maps: bool) -> Iterator[People]:
        """The second half: the people of each image, everybody's crops in common batches.

        Maps are kept of the places that are told, not of all that are tried: that would be seven times the
        memory.
        """
        if keep_maps:
            seen = [
                replace(image, places=[self._surest(image)], one_person=False) if image.one_person else image
                for image in seen
            ]
        jobs = [(image.array, place) for image in seen for place in image.places]
        size = max(1, self.batch // (len(self.scales) * (1 + self.flip_test)))
        found: list[Person] = []
        for start in range(0, len(jobs), size):
            found += self._people(jobs[start : start + size], keep_maps=keep_maps)
        people = iter(found)
        for image in seen:
            own = list(itertools.islice(people, len(image.places)))
            if image.one_person:
                own = [own[_surest(own)]]
            yield People(own, image.array, self.skeleton, image.source)

    def _surest(self, seen: Seen) -> Place:
        """The best of the places that one person may have."""
        found = next(self.estimate([replace(seen, one_person=False)], keep_maps=False))
        return seen.places[_surest(found)]

    def _people(self, jobs: list[tuple[np.ndarray, Place]], *, keep_maps: bool) -> list[Person]:
        """A few people, all in one batch."""
        crops = np.stack([[self._crop(*job, scale) for scale in self.scales] for job in jobs])
        views = self._beliefs(crops, last_only=not keep_maps)
        zooms = self.scales * (1 + self.flip_test)
        large = average_views(views[-1], zooms, self.net.stride)
        xy, score = highest(large[:, :-1])
        if self.sub_pixel:
            xy = sub_pixel(large[:, :-1], xy, self.net.stride)
        inverse = np.stack([invert_matrix(self._matrix(place)) for _, place in jobs])
        keypoints = to_image(xy.cpu(), torch.from_numpy(inverse)).numpy()
        scores = score.cpu().numpy()
        check_finite(scores, str(self.weights))
        people = []
        for index, (image, place) in enumerate(jobs):
            person = Person(
                keypoints=keypoints[index],
                scores=scores[index],
                names=self.skeleton.parts,
                center=place.center,
                extent=place.extent,
                assumed=place.assumed,
                detection=place.detection,
                crop_to_image=inverse[index],
            )
            if keep_maps:
                own = [view[index : index + 1] for view in views]
                kept = [maps[0, 0] if zooms == (1.0,) else average_views(maps, zooms)[0] for maps in own]
                beliefs = tuple(maps.cpu().numpy() for maps in kept)
                person = replace(person, crop=self._crop(image, place, 1.0), belief_maps=beliefs)
            people.append(person)
        return people

    def _beliefs(self, crops: np.ndarray, *, last_only: bool) -> list[Tensor]:
        """Maps of crops (J, V, S, S, 3), see :class:`CropBeliefs`."""
        forward = self._compiled or partial(self.net, stages=self.stages)
        flip_order = (*self.skeleton.flip_permutation, len(self.skeleton)) if self.flip_test else None
        look = CropBeliefs(forward, self.device, self.dtype, self.batch, flip_order)
        return look(crops, last_only=last_only)

    def _matrix(self, place: Place, zoom: float = 1.0) -> np.ndarray:
        """(2, 3), from image pixels to those of the crop that shows the person ``zoom`` times as large."""
        return place_matrix(np.array(place.center), place.extent / zoom, self.augment)

    def _crop(self, image: np.ndarray, place: Place, zoom: float) -> np.ndarray:
        """The network's view of one person: (crop, crop, 3) uint8."""
        return warp_image(image, self._matrix(place, zoom), self.augment.crop)


def _is_one(image: Image | Iterable[Image]) -> bool:
    """Whether this is one image, or nothing that could be several."""
    if isinstance(image, np.ndarray):
        return image.ndim < 4
    return isinstance(image, str | Path | bytes) or not isinstance(image, Iterable)


def _with_boxes(
    images: Iterable[Image], boxes: Iterable[Sequence[Box] | None] | None
) -> Iterator[tuple[Image, Sequence[Box] | None]]:
    """Each image and the boxes of its people; ValueError where there are not as many of these."""
    if boxes is None:
        yield from zip(images, itertools.repeat(None))
        return
    end = object()
    for number, (image, own) in enumerate(itertools.zip_longest(images, boxes, fillvalue=end)):
        if image is end or own is end:
            few, many = ("images", "lists") if image is end else ("lists", "images")
            raise ValueError(f"boxes: wanted one list per image, got fewer {few} ({number}) than {many}")
        yield cast(Image, image), cast("Sequence[Box] | None", own)


def _surest(people: Sequence[Person]) -> int:
    """Which has the highest sum of scores; the first of equals."""
    return int(np.argmax([person.scores.astype(np.float64).sum() for person in people]))


def _skeleton(parts: int) -> Skeleton:
    """The body that a network of so many parts was most likely trained on, where its file does not say."""
    for skeleton in (CPM14, FLIC9):
        if len(skeleton) == parts:
            return skeleton
    names = tuple(f"part_{index}" for index in range(parts))
    return Skeleton("custom", names, flip_pairs=(), limbs=())
