"""What a run says about itself on the way: ``metrics.jsonl``, TensorBoard and the display."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean

from cpm_repro.training.board import Board, board
from cpm_repro.training.recipe import lower
from cpm_repro.training.rising import Losses
from cpm_repro.training.run_folder import RunFolder
from cpm_repro.training.watch import Display, Status, clock

RISEN = "risen"
"""Key of an update's record that says how its loss is far above what it was; not there where it is not."""

_WINDOW = 50
"""Updates over which the displayed losses and times are averaged."""


@dataclass(frozen=True)
class Update:
    """One update, after it was made."""

    iteration: int  # number of updates made, this one included
    phase: str
    seconds: float  # of the run so far
    progress: float  # share of the budget spent, 0 to 1
    rates: Mapping[str, float]  # learning rates, by the names of their settings
    losses: list[float]  # per stage, Caffe's units
    cells: int  # values in one person's maps of one stage: channels times height times width
    gradient_norm: float
    waited: float  # seconds for the batch
    took: float  # seconds altogether
    trained: tuple[int, ...] | None = None  # stages, from 1, whose losses are trained; None: all

    def per_pixel(self) -> list[float]:
        """Mean squared difference of a belief-map cell per stage: what Caffe's loss is 2 / cells times of."""
        return [2 * loss / self.cells for loss in self.losses]


class Journal:
    """Writes a run's records and shows them at a pace a person can read; on other ranks it does nothing."""

    def __init__(self, folder: RunFolder, *, writes: bool) -> None:
        self.folder = folder
        self.board: Board | None = None
        self.display = Display() if writes else None
        self._recent: deque[Update] = deque(maxlen=_WINDOW)
        self._losses, self._warned = Losses(), False
        self._since = 0.0, 0.0  # seconds and progress of the run when this process took it up

    def say(self, line: str) -> None:
        """Print a line of its own."""
        if self.display is not None:
            self.display.say(line)

    def open_board(self, iteration: int) -> None:
        """Write TensorBoard's events too from ``iteration`` on, where it is installed."""
        if self.display is not None:
            try:
                self.board = board(self.folder.path, iteration)
            except OSError as error:
                self.say(f"TensorBoard's events cannot be written ({error.strerror or error}): without them")

    def on_board(self, write: Callable[[Board], None]) -> None:
        """``write(board)`` if there is a board; one that cannot be written is given up, not the run."""
        if self.board is None:
            return
        try:
            write(self.board)
        except OSError as error:
            self.board = None
            self.say(f"TensorBoard's events cannot be written ({error.strerror or error}): going on without")

    def forget(self) -> None:
        """Average anew: what follows cannot be compared with what was."""
        self._recent.clear()
        self._losses, self._warned = Losses(), False

    def recall(self, phase: str, seconds: float, progress: float) -> None:
        """Take note of an interrupted run: the losses that its records have of ``phase``, and how far it is.

        Args:
            phase: that the run is in.
            seconds: that it has taken.
            progress: share of the budget spent.
        """
        self._since = seconds, progress
        for record in self.folder.records():
            if record["kind"] == "train" and record.get("phase") == phase and "loss" in record:
                self._losses.add(record["loss"])
                self._warned = RISEN in record

    def update(self, made: Update) -> None:
        """Take note of one update."""
        if self.display is None:
            return
        self._recent.append(made)
        rise = self._losses.add(made.losses, made.trained)
        self.folder.append(
            {
                "kind": "train",
                "iteration": made.iteration,
                "phase": made.phase,
                "seconds": round(made.seconds, 3),
                **made.rates,
                "loss": made.losses,
                "loss_per_pixel": made.per_pixel(),
                "gradient_norm": made.gradient_norm if math.isfinite(made.gradient_norm) else None,
                "data_time": round(made.waited, 5),
                "step_time": round(made.took, 5),
                **({} if rise is None else {RISEN: str(rise)}),
            }
        )
        if rise is not None and not self._warned:
            self._warned = True
            self.say(
                f"warning: {rise} at iteration {made.iteration}: the run may be diverging; "
                f"{lower(made.rates)}"
            )
        self.on_board(
            lambda board: board.update(
                made.iteration, made.rates, made.losses, made.per_pixel(), made.gradient_norm
            )
        )
        self.display.show(self._status(made))

    def _status(self, made: Update) -> Status:
        recent = self._recent
        seconds, progress = self._since
        share = max(made.progress - progress, 1e-9)
        return Status(
            iteration=made.iteration,
            progress=made.progress,
            seconds_left=(made.seconds - seconds) * (1 - made.progress) / share,
            data_time=fmean(item.waited for item in recent),
            step_time=fmean(item.took for item in recent),
            rates=made.rates,
            losses=[fmean(stage) for stage in zip(*(item.losses for item in recent), strict=True)],
            per_pixel=fmean(item.per_pixel()[-1] for item in recent),
        )

    def validation(self, iteration: int, phase: str, seconds: float, pck: list[float]) -> None:
        """Take note of the scores of every stage, in percent."""
        if self.display is None:
            return
        self.folder.append(
            {
                "kind": "validation",
                "iteration": iteration,
                "phase": phase,
                "seconds": round(seconds, 3),
                "pck": pck,
            }
        )
        self.on_board(lambda board: board.scores(iteration, pck))
        stages = " / ".join(f"{total:.1f}" for total in pck)
        self.say(f"{clock(seconds)}  iteration {iteration}: validation PCK@0.2 per stage {stages} %")

    def close(self) -> None:
        """Leave the terminal clean."""
        self.on_board(lambda board: board.close())
        if self.display is not None:
            self.display.close()
