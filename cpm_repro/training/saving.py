"""When a run's state is saved, and that nothing unusable takes the place of what can be gone on from."""

from __future__ import annotations

import math
import time
from pathlib import Path

from torch import Tensor

from cpm_repro.errors import UserError
from cpm_repro.training.checkpoint import newest_intact
from cpm_repro.training.checkpoint_writer import CheckpointWriter, on_host
from cpm_repro.training.failure import largest_weight
from cpm_repro.training.run_folder import RunFolder
from cpm_repro.training.state import RunState
from cpm_repro.training.step import Step


class Saver:
    """Saves the state of a run into its folder.

    Args:
        folder: of the run.
        state: what is saved, as it is then.
        step: that made it; ends the run over weights that are not finite.
        writer: that writes it beside the updates.
        writes: False on the ranks that leave it to the first.
    """

    def __init__(
        self, folder: RunFolder, state: RunState, step: Step, writer: CheckpointWriter, *, writes: bool
    ) -> None:
        self._folder, self._state, self._step, self._writer = folder, state, step, writer
        self._writes = writes
        self._saved_at = time.monotonic()

    def due(self) -> bool:
        """Whether as many updates or minutes as the configuration says have passed."""
        config = self._state.config
        if config.checkpoint_iterations:
            return self._state.iteration % config.checkpoint_iterations == 0
        return time.monotonic() - self._saved_at > 60 * config.checkpoint_minutes

    def save(self, path: Path | None = None) -> None:
        """Begin to write the state as ``last.pt`` (or to ``path``), when the one before is written.

        Raises:
            UserError: a weight is not finite: no checkpoint that can be gone on from gives way to that.
            EnvironmentFailure: the one before could not be written.
        """
        if not self._writes:
            return
        self._writer.wait()
        largest, state = on_host((largest_weight(self._state.net), self._state.checkpoint()))
        self._check(largest)
        if path is None:
            self._writer.write(self._folder.last, state, self._folder.previous)
            self._saved_at = time.monotonic()
        else:
            self._writer.write(path, state, None)

    def check_weights(self) -> None:
        """Stop the run if a weight is not finite (UserError, in which what there is to go on from)."""
        self._check(largest_weight(self._state.net))

    def _check(self, largest: Tensor) -> None:
        if not math.isfinite(largest):
            self._writer.wait()
            self._step.fail_weights(self._kept())

    def _kept(self) -> str:
        """What of the run there is to go on from."""
        try:
            found = newest_intact(self._folder.checkpoints)
        except UserError as error:
            return f"no checkpoint is intact ({error})"
        if found is None:
            return "there is no checkpoint yet"
        return f"the last intact checkpoint is of iteration {found.checkpoint.iteration}, {found.path}"
