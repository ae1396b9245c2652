"""A loss that rises and stays there: divergence that every number survives."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

WINDOW = 10
"""Updates whose median is a stage's loss: half of them odd are no rise, six are."""

TIMES = 3.0
"""What a loss may be of its lowest: losses of sound runs waver by less."""

_NOISE = 1 / 30
"""Below this share of its first value a rise is noise: people known by heart have losses near 0."""


@dataclass(frozen=True)
class Rise:
    """A stage's loss that is far above what it was; losses in Caffe's units."""

    stage: int  # from 1
    loss: float
    lowest: float

    def __str__(self) -> str:
        times = self.loss / max(self.lowest, 1e-9)
        return (
            f"the loss of stage {self.stage} is {self.loss:.3g}, {times:.1f} times "
            f"the lowest it was ({self.lowest:.3g}; medians of {WINDOW} updates)"
        )


class Losses:
    """The losses of one phase, update after update."""

    def __init__(self) -> None:
        self._recent: deque[Sequence[float]] = deque(maxlen=WINDOW)
        self._first: list[float] = []
        self._lowest: list[float] = []

    def add(self, losses: Sequence[float], trained: Sequence[int] | None = None) -> Rise | None:
        """Take note of an update; the worst of the stages that have risen.

        Args:
            losses: of every stage, stage 1 first.
            trained: stages, from 1, whose losses are trained; None: all. Others may rise.
        """
        self._recent.append(losses)
        if len(self._recent) < WINDOW:
            return None
        now = [median_low(stage) for stage in zip(*self._recent, strict=True)]
        self._first = self._first or now
        self._lowest = [min(pair) for pair in zip(self._lowest or now, now, strict=True)]
        risen = [
            Rise(stage, loss, lowest)
            for stage, (loss, lowest, first) in enumerate(
                zip(now, self._lowest, self._first, strict=True), start=1
            )
            if (trained is None or stage in trained) and loss > TIMES * max(lowest, _NOISE * first) > 0
        ]
        return max(risen, key=lambda rise: rise.loss / max(rise.lowest, 1e-9), default=None)
