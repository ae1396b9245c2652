"""Batches for training and validation.

The batch of iteration t depends on (seed, t) alone: samples follow one permutation per epoch drawn from
(seed, epoch), and sample number g (counted over the whole run) is augmented from (seed, g). So any number
of workers and any resume point give identical batches. A sample whose image cannot be read gives way to the
next of its epoch, and so does one that the crop refuses (no scale for the release's methods).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from types import TracebackType
from typing import Protocol

import cv2
import numpy as np
import torch

from cpm_repro.config import AugmentConfig
from cpm_repro.data.augment import Crop, PersonAugment, Place
from cpm_repro.data.beyond import BeyondAugment
from cpm_repro.data.device import pad_windows, window_maps
from cpm_repro.data.readable import Readable
from cpm_repro.data.release import ReleaseAugment
from cpm_repro.data.sample import PoseDataset, PoseSample
from cpm_repro.errors import UserError
from cpm_repro.shared_setting import SharedSetting
from cpm_repro.skeleton import Skeleton, Visibility

# Independent streams of random numbers under one seed.
_ORDER, _AUGMENT = 0, 1

_one_opencv_thread = SharedSetting(cv2.getNumThreads, cv2.setNumThreads, 1)


class Augment(Protocol):
    """How a training sample becomes a crop: `PersonAugment` or `ReleaseAugment`."""

    def cut(self, sample: PoseSample, skeleton: Skeleton, rng: np.random.Generator) -> Crop:
        """Crop with random choices taken from ``rng`` alone; crops of one configuration have one size."""


def crop_of(config: AugmentConfig) -> PersonAugment | ReleaseAugment:
    """The crop that the settings' ``method`` names."""
    return PersonAugment(config) if config.method == "box" else ReleaseAugment.of(config)


def augment_of(config: AugmentConfig) -> Augment:
    """Everything that the settings ask for while training."""
    crop = crop_of(config)
    beyond = config.half_body or config.occlusion or config.photometric
    return BeyondAugment(crop, config) if beyond else crop


@dataclass(frozen=True, slots=True)
class Batch:
    """N crops on the CPU.

    Attributes:
        image: (N, crop, crop, 3) uint8 BGR.
        joints: (N, P, K, 2) float32 crop pixels; P is the most people in one sample of the batch.
        visible: (N, P, K) uint8 Visibility codes; missing people are CROPPED.
        center: (N, 2) float32 crop pixels.
        matrix: None, or (N, 2, 3) float32 of `window_maps`: ``image`` then holds windows for `warp_windows`.
    """

    image: torch.Tensor
    joints: torch.Tensor
    visible: torch.Tensor
    center: torch.Tensor
    matrix: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class ValBatch:
    """A validation batch and what is needed to score it in the photographs' own pixels.

    Attributes:
        batch: the crops.
        inverse: (N, 2, 3) float64, crop pixels to photograph pixels.
        joints: (N, K, 2) float32, person 0's joints in the photograph.
        visible: (N, K) uint8 Visibility codes of person 0.
        extent: (N,) float64, longer side of the person's box in the photograph.
        index: (N,) int64, positions in the data set.
        names: (N,) str, the samples' ids.
    """

    batch: Batch
    inverse: np.ndarray
    joints: np.ndarray
    visible: np.ndarray
    extent: np.ndarray
    index: np.ndarray
    names: np.ndarray


class TrainLoader:
    """Endless iterator over training batches, starting with iteration ``start``.

    Use as a context manager or call `close`. With ``workers`` threads, batches are prepared ahead in the
    background (OpenCV and NumPy release the interpreter lock while they work on pixels); with 0 they are
    made when asked for. While it is open OpenCV itself runs single-threaded: the parallel work is across
    batches, and cores are usually shared with the training step.

    An exception in a worker is raised by ``next`` of the batch it belongs to; other than a UserError, it is
    wrapped in a RuntimeError that names the sample.

    Args:
        dataset: samples; must not be empty.
        augment: crop and augmentation; settings mean what `augment_of` makes of them.
        batch: samples per batch.
        seed: non-negative; with ``start`` it determines everything.
        workers: background threads; each has two batches ahead.
        start: first iteration (0-based).
        share: which samples of every batch are made, for processes that share a batch; default all.
    """

    def __init__(
        self,
        dataset: PoseDataset,
        augment: AugmentConfig | Augment,
        batch: int,
        seed: int,
        workers: int = 0,
        start: int = 0,
        share: slice = slice(None),
    ) -> None:
        if len(dataset) == 0:
            raise UserError(f"data set {dataset.name}: expected at least one training sample, got none")
        for name, value, least in (
            ("batch", batch, 1),
            ("seed", seed, 0),
            ("workers", workers, 0),
            ("start", start, 0),
        ):
            if value < least:
                raise ValueError(f"{name}: expected at least {least}, got {value}")
        cutter = augment_of(augment) if isinstance(augment, AugmentConfig) else augment
        self._source = _BatchSource(dataset, cutter, batch, seed, share)
        self._next = start
        self._ahead = 2 * workers
        self._pending: deque[Future[Batch]] = deque()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="loader") if workers else None
        self._open = True
        _one_opencv_thread.__enter__()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if not self._open:
            raise StopIteration
        if self._pool is None:
            self._next += 1
            return self._source.make(self._next - 1)
        while len(self._pending) < self._ahead:
            self._pending.append(self._pool.submit(self._source.make, self._next))
            self._next += 1
        made = self._pending.popleft().result()
        # Ask for the next one before the caller trains on this one.
        self._pending.append(self._pool.submit(self._source.make, self._next))
        self._next += 1
        return made

    def close(self) -> None:
        """Stop the workers; batches being made are finished and thrown away. May be called twice."""
        if not self._open:
            return
        self._open = False
        self._pending.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        _one_opencv_thread.__exit__(None, None, None)

    def __enter__(self) -> TrainLoader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _BatchSource:
    """Makes the batch of any iteration; safe to call from several threads."""

    def __init__(self, dataset: PoseDataset, augment: Augment, batch: int, seed: int, share: slice) -> None:
        self._dataset, self._augment, self._batch, self._seed = dataset, augment, batch, seed
        self._readable = Readable(dataset)
        self._share = share
        self._orders: dict[int, np.ndarray] = {}

    def make(self, iteration: int) -> Batch:
        first = iteration * self._batch
        return collate([self._crop(number) for number in range(first, first + self._batch)[self._share]])

    def _crop(self, number: int) -> Crop:
        epoch, position = divmod(number, len(self._dataset))
        order = self._order(epoch)
        name = ""

        def cut(sample: PoseSample) -> Crop:
            nonlocal name
            name = sample.id
            return self._augment.cut(sample, self._dataset.skeleton, stream(self._seed, _AUGMENT, number))

        for index in chain(order[position:].tolist(), order[:position].tolist()):
            name = f"{self._dataset.name}[{index}]"
            try:
                crop = self._readable.made(index, cut)
            except Exception as error:
                raise RuntimeError(f"sample {name}: {type(error).__name__}: {error}") from error
            if crop is not None:
                return crop
        raise self._readable.nobody()

    def _order(self, epoch: int) -> np.ndarray:
        """The permutation of ``epoch``.

        Two epochs are kept, for batches that straddle; a race only costs a redraw.
        """
        order = self._orders.get(epoch)
        if order is None:
            order = stream(self._seed, _ORDER, epoch).permutation(len(self._dataset))
            self._orders = {epoch: order, **{e: o for e, o in self._orders.items() if abs(e - epoch) == 1}}
        return order


def stream(*key: int) -> np.random.Generator:
    """The random generator of a key of non-negative integers.

    Keys of one length are independent of one another.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def collate(crops: Sequence[Crop]) -> Batch:
    """Stack crops; people that a sample lacks are added as CROPPED at (0, 0)."""
    people = max(len(crop.joints) for crop in crops)
    parts = crops[0].joints.shape[1]
    joints = np.zeros((len(crops), people, parts, 2), np.float32)
    visible = np.full((len(crops), people, parts), Visibility.CROPPED, np.uint8)
    for row, crop in enumerate(crops):
        joints[row, : len(crop.joints)] = crop.joints
        visible[row, : len(crop.visible)] = crop.visible
    matrices = [crop.matrix for crop in crops if crop.matrix is not None]
    images = [crop.image for crop in crops]
    image = pad_windows(images) if matrices else torch.from_numpy(np.stack(images))
    return Batch(
        image=image,
        joints=torch.from_numpy(joints),
        visible=torch.from_numpy(visible),
        center=torch.from_numpy(np.stack([crop.center for crop in crops])),
        matrix=window_maps(matrices, (image.shape[1], image.shape[2])) if matrices else None,
    )


def val_batches(
    dataset: PoseDataset,
    config: AugmentConfig | ReleaseAugment,
    batch: int,
    indices: Sequence[int] | None = None,
) -> Iterator[ValBatch]:
    """Validation crops in order: scale multiplier 1, no rotation, flip or shift.

    Batches are smaller at the end, and where an image cannot be read (`DataWarning`).

    Args:
        dataset: samples.
        config: only ``method``, ``crop`` and ``fill`` or ``target_dist`` are used; "exact" crops as "fast".
        batch: samples per batch.
        indices: which samples; default all.

    Raises:
        UserError: there are samples, but none can be read.
    """
    cutter = crop_of(config) if isinstance(config, AugmentConfig) else config
    chosen = range(len(dataset)) if indices is None else indices
    readable, empty = Readable(dataset), True

    def place(sample: PoseSample) -> tuple[PoseSample, Place]:
        return sample, cutter.place(sample, dataset.skeleton)

    for first in range(0, len(chosen), batch):
        made = [(i, readable.made(i, place)) for i in chosen[first : first + batch]]
        index = [i for i, found in made if found is not None]
        samples = [found[0] for _, found in made if found is not None]
        places = [found[1] for _, found in made if found is not None]
        if not samples:
            continue
        yield ValBatch(
            batch=collate([place.crop for place in places]),
            inverse=np.stack([place.inverse for place in places]),
            joints=np.stack([sample.joints[0] for sample in samples]),
            visible=np.stack([sample.visible[0] for sample in samples]),
            extent=np.array([sample.extent for sample in samples]),
            index=np.array(index, dtype=np.int64),
            names=np.array([sample.id for sample in samples]),
        )
        empty = False
    if chosen and empty:
        raise readable.nobody()
