"""What a run is between two updates: all that a checkpoint holds, given to it and taken from it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from cpm_repro.config import TrainConfig
from cpm_repro.errors import UserError
from cpm_repro.model import PoseMachine
from cpm_repro.skeleton import Skeleton
from cpm_repro.training.average import Average
from cpm_repro.training.checkpoint import Checkpoint
from cpm_repro.training.recipe import LossScale, Optimizers


@dataclass
class RunState:
    """The weights and all that moves them, and how far the run is."""

    config: TrainConfig
    net: PoseMachine
    average: Average | None  # of the net's weights, where the run keeps one
    optimizers: Optimizers
    scale: LossScale
    skeleton: Skeleton  # of the people to train on
    people: int  # to train on
    iteration: int = 0  # updates made
    seconds: float = 0.0  # taken
    best: float = -1.0  # the last stage's best score of this phase, in percent; -1: nothing was scored
    phase: int = 0  # index of the scheme's phase
    phase_start: int = 0  # updates made before it

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the network has the weights that it is used with."""
        return self.average.applied() if self.average is not None else nullcontext()

    def checkpoint(self) -> Checkpoint:
        """The state, of which the tensors go on changing."""
        return Checkpoint(
            config=self.config,
            iteration=self.iteration,
            seconds=self.seconds,
            best=self.best,
            model=self.net.state_dict() if self.average is None else self.average.state_dict(),
            optimizers=self.optimizers.state_dict(),
            skeleton=self.skeleton,
            phase=self.phase,
            phase_start=self.phase_start,
            raw=None if self.average is None else self.net.state_dict(),
            loss_scale=self.scale.state_dict() if self.scale.active else None,
            people=self.people,
        )

    def restore(self, saved: Checkpoint, path: Path) -> None:
        """Take over what the checkpoint at ``path`` has saved.

        Raises:
            UserError: its optimiser's state belongs to other weights.
        """
        self.net.load_state_dict(saved.model if saved.raw is None else saved.raw)
        if self.average is not None:
            self.average.load_state_dict(saved.model)
        try:
            self.optimizers.load_state_dict(saved.optimizers)
        except ValueError as error:  # an older version may have given Muon and AdamW other weights
            raise UserError(
                f"{path}: its optimiser's state does not fit the optimiser of this version ({error}): "
                f"start a new run from it with --weights"
            ) from error
        self.iteration, self.seconds, self.best = saved.iteration, saved.seconds, saved.best
        self.phase, self.phase_start = saved.phase, saved.phase_start
        if saved.loss_scale is not None:
            self.scale.load_state_dict(saved.loss_scale)
