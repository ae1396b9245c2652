"""One bar for all runs of a study, with the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from cpm_repro.config import TrainConfig
from cpm_repro.files import parse_json
from cpm_repro.model import multiply_accumulates
from cpm_repro.studies.plan import Run, described
from cpm_repro.training.watch import clock

_LINE_SECONDS = 30.0
_TAIL = 4096


class StudyBar:
    """Shows how much of the work is done: read from the runs' own metrics, whichever process makes them.

    Runs count by their cost: minutes where they have them, else updates times multiply-adds.
    """

    def __init__(self, runs: Sequence[Run], folder: Path, done: int) -> None:
        self._runs, self._folder = runs, folder
        self._costs = [_cost(run.config) for run in runs]
        self._started, self._next = time.monotonic(), 0.0
        self._before = self._share()
        self._bar = (
            tqdm(total=1000, bar_format="{percentage:3.0f}%|{bar:24}| {desc}", dynamic_ncols=True)
            if sys.stderr.isatty()
            else None
        )
        self.show(done)

    def show(self, finished: int) -> None:
        """Show the newest state, at a pace that a person can read."""
        now = time.monotonic()
        if now < self._next and finished < len(self._runs):
            return
        self._next = now + (0.5 if self._bar else _LINE_SECONDS)
        share = self._share()
        made, passed = share - self._before, now - self._started
        left = f"left {clock(passed * (1 - share) / made)}" if made > 0.002 else "left: not known yet"
        text = f"{finished} of {len(self._runs)} runs  {left}"
        if self._bar is None:
            print(f"{100 * share:3.0f}%  {text}", flush=True)
        else:
            self._bar.n = round(1000 * share)
            self._bar.set_description_str(text)

    def _share(self) -> float:
        done = sum(
            cost * share_done(self._folder / run.name, run.config)
            for run, cost in zip(self._runs, self._costs, strict=True)
        )
        return done / sum(self._costs)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.close()


def share_done(folder: Path, config: TrainConfig) -> float:
    """Share of a run's budget that its folder shows as spent, 0 to 1."""
    if (folder / "result.json").exists():
        return 1.0
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            last = parse_json(file.read().splitlines()[-1])
    except (OSError, ValueError, IndexError):
        return 0.0
    spent = [(last["iteration"], config.iterations), (last["seconds"] / 60, config.minutes)]
    return min(0.999, max(done / budget for done, budget in spent if budget))


def _cost(config: TrainConfig) -> float:
    if not config.iterations:
        assert config.minutes is not None
        return config.minutes
    crop = config.augment.crop
    work = multiply_accumulates(described(config.network), crop, crop)
    return config.iterations * config.solver.batch * work
