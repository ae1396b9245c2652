"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from tqdm import tqdm

_LINE_SECONDS = 10.0


@dataclass(frozen=True)
class Status:
    """One moment of a run."""

    iteration: int
    progress: float  # share of the budget spent, 0 to 1
    seconds_left: float
    data_time: float  # seconds an average step waited for its batch
    step_time: float  # seconds an average step took altogether
    rates: Mapping[str, float]  # learning rates, by the names of their settings
    losses: list[float]  # per stage, smoothed, Caffe's units
    per_pixel: float  # the last stage's mean squared difference, smoothed

    def __str__(self) -> str:
        rates = "  ".join(f"{name} {rate:.2e}" for name, rate in self.rates.items())
        losses = " ".join(f"{loss:.2f}" for loss in self.losses)
        return (
            f"iter {self.iteration}  left {clock(self.seconds_left)}  data {1e3 * self.data_time:.0f} ms"
            f"  step {1e3 * self.step_time:.0f} ms  {rates}  loss per stage {losses}"
            f" (last per pixel {self.per_pixel:.2e})"
        )


class Display:
    """Shows :class:`Status` at a pace a person can read; ``say`` prints a line of its own."""

    def __init__(self) -> None:
        self._bar = (
            tqdm(total=1000, bar_format="{percentage:3.0f}%|{bar:16}| {desc}", dynamic_ncols=True)
            if sys.stderr.isatty()
            else None
        )
        self._next = 0.0

    def show(self, status: Status) -> None:
        """Show the newest status (dropped when the last one is too recent to matter)."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (0.2 if self._bar else _LINE_SECONDS)
        if self._bar is None:
            print(f"{100 * status.progress:3.0f}%  {status}", flush=True)
        else:
            self._bar.n = round(1000 * status.progress)
            self._bar.set_description_str(str(status))

    def say(self, line: str) -> None:
        """Print ``line`` without tearing the bar."""
        if self._bar is None:
            print(line, flush=True)
        else:
            self._bar.write(line, file=sys.stdout)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.close()


def clock(seconds: float) -> str:
    """``75`` -> ``1:15``; hours appear when there are any."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, second = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{second:02d}" if hours else f"{minutes}:{second:02d}"
