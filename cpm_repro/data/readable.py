"""Samples of a data set when some of its images cannot be read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeVar

from cpm_repro.config import AugmentConfig
from cpm_repro.data.annotations import DataWarning
from cpm_repro.data.sample import PoseDataset, PoseSample
from cpm_repro.errors import UserError

_Made = TypeVar("_Made")

_LOOKED_AT = 100
"""People of whom somebody has a scale where the data set has scales."""


class Readable:
    """Reads samples; one that cannot be read is said once, as a `DataWarning`, and not tried again.

    A photograph that is a web page or half a file shows only when it is decoded, long after the data set was
    opened; the good ones are used. Safe to call from several threads.

    Attributes:
        unread: why, by position.
        refused: those of which something could not be made, and why at the first time.
    """

    def __init__(self, dataset: PoseDataset) -> None:
        self._dataset = dataset
        self.unread: dict[int, str] = {}
        self.refused: dict[int, str] = {}

    def read(self, index: int) -> PoseSample | None:
        """The sample, or None where it cannot be read."""
        if index in self.unread:
            return None
        try:
            return self._dataset[index]
        except UserError as error:
            self.unread[index] = str(error)
            self._say(error)
            return None

    def made(self, index: int, make: Callable[[PoseSample], _Made]) -> _Made | None:
        """What ``make`` makes of the sample, or None where it cannot be read or ``make`` refuses it.

        A refusal is said once, but the sample is tried again: it may be of one random draw.
        """
        sample = self.read(index)
        if sample is None:
            return None
        try:
            return make(sample)
        except UserError as error:
            if index not in self.refused:
                self.refused[index] = str(error)
                self._say(error)
            return None

    def _say(self, error: UserError) -> None:
        warnings.warn(f"{self._dataset.name}: left out: {error}", DataWarning, stacklevel=3)

    def first(self, order: Iterable[int]) -> PoseSample:
        """The first sample of ``order`` that can be read.

        Raises:
            UserError: none can.
        """
        for index in order:
            sample = self.read(index)
            if sample is not None:
                return sample
        raise self.nobody()

    def nobody(self) -> UserError:
        """That none of those who were tried can be used."""
        if self.refused:
            return UserError(f"nobody can be used: {next(iter(self.refused.values()))}")
        return UserError(
            f"{self._dataset.name}: wanted an image that can be read, got {len(self.unread)} that cannot, "
            f"such as {next(iter(self.unread.values()))}"
        )


def check_scales(spec: str, augment: AugmentConfig, people: PoseDataset) -> None:
    """Refuse people without a scale for a crop that goes by it, before every picture is tried in turn.

    Single ones without are left out when they are cropped.

    Raises:
        UserError: nobody of the first of ``people``, of the data called ``spec``, has a scale.
    """
    if augment.method == "box":
        return
    looked_at: list[bool] = []
    for sample in islice(filter(None, map(Readable(people).read, range(len(people)))), _LOOKED_AT):
        looked_at.append(sample.scale > 0)
        if looked_at[-1]:
            return
    if looked_at:
        raise UserError(
            f"{spec}: augment.method {augment.method} expects a scale (person height / 200 px), which none "
            f"of the first {len(looked_at)} has; augment.method=box does without"
        )
