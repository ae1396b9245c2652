"""Several data sets as one, with weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cpm_repro.data.sample import PoseDataset, PoseSample
from cpm_repro.errors import UserError
from cpm_repro.skeleton import Skeleton


class MixedDataset:
    """Data sets of one skeleton, mixed.

    Without weights everybody is there once. With weights the shares of an epoch are the weights', and the
    epoch is as long as it takes until everybody was there at least once: people of a set whose weight is
    larger than its share of people come more often, as evenly as whole numbers allow. An index means the
    same sample every time, so the loader stays deterministic and resumable.

    Args:
        datasets: at least one.
        weights: positive, one each; None gives every person the same.
        size: only so many samples, spread evenly over all.

    Raises:
        UserError: skeletons whose parts or flip pairs differ, or a weight that is not positive.
    """

    def __init__(
        self, datasets: Sequence[PoseDataset], weights: Sequence[float] | None = None, size: int | None = None
    ) -> None:
        first = datasets[0]
        for other in datasets[1:]:
            if other.skeleton.parts != first.skeleton.parts:
                raise UserError(
                    f"data sets {first.name} and {other.name} have other parts: {_difference(first, other)}"
                )
            if other.skeleton.flip_permutation != first.skeleton.flip_permutation:
                raise UserError(
                    f"data sets {first.name} and {other.name} have other flip pairs: "
                    "give both the same skeleton.toml"
                )
        self._datasets = list(datasets)
        counts = _counts([len(dataset) for dataset in datasets], weights)
        self._ends = np.cumsum(counts)
        self._counts = counts
        total = int(self._ends[-1])
        self._size = min(total, size or total)

    @property
    def name(self) -> str:
        """The names joined by +."""
        return "+".join(dataset.name for dataset in self._datasets)

    @property
    def skeleton(self) -> Skeleton:
        """The first data set's."""
        return self._datasets[0].skeleton

    def __len__(self) -> int:
        return self._size

    @property
    def people(self) -> int:
        """How many there are in all the data sets, however often they come."""
        return sum(map(len, self._datasets))

    def place(self, index: int) -> tuple[int, int]:
        """Which data set, and which sample of it."""
        if not 0 <= index < self._size:
            raise IndexError(f"index: expected 0 to {self._size - 1}, got {index}")
        at = index * int(self._ends[-1]) // self._size
        which = int(np.searchsorted(self._ends, at, side="right"))
        rank = at - (int(self._ends[which - 1]) if which else 0)
        return which, rank * len(self._datasets[which]) // self._counts[which]

    def __getitem__(self, index: int) -> PoseSample:
        which, rank = self.place(index)
        return self._datasets[which][rank]


def _counts(sizes: list[int], weights: Sequence[float] | None) -> list[int]:
    """Samples of each data set in an epoch."""
    if weights is None:
        return sizes
    if len(weights) != len(sizes) or not all(w > 0 and math.isfinite(w) for w in weights):
        raise UserError(f"weights: expected {len(sizes)} positive numbers, got {list(weights)}")
    length = max(size / weight for size, weight in zip(sizes, weights, strict=True))
    return [max(size, round(weight * length)) for size, weight in zip(sizes, weights, strict=True)]


def _difference(one: PoseDataset, other: PoseDataset) -> str:
    a, b = one.skeleton.parts, other.skeleton.parts
    if len(a) != len(b):
        return f"{len(a)} and {len(b)}"
    index = next(k for k in range(len(a)) if a[k] != b[k])
    return f"part {index + 1} is {a[index]} and {b[index]}"
