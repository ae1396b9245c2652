"""The training loop, top to bottom."""

from __future__ import annotations

import time
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from cpm_repro.config import TrainConfig, check, first_difference
from cpm_repro.data import Batch, PoseDataset, TrainLoader, open_dataset
from cpm_repro.errors import UserError
from cpm_repro.evaluation import ScoreTable
from cpm_repro.inference.network_input import network_input
from cpm_repro.inference.weights import build_from
from cpm_repro.model import PoseMachine, describe, initialise
from cpm_repro.training.average import Average
from cpm_repro.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from cpm_repro.training.losses import stage_losses
from cpm_repro.training.person import PersonCentres
from cpm_repro.training.recipe import Optimizers, build_optimizers, lr_factor, use_bf16
from cpm_repro.training.run_folder import RunFolder
from cpm_repro.training.schemes import check_budget, enter, leave, phase_at, phases_of
from cpm_repro.training.sharding import Cores, cores_for, keep_freed_memory, sharded_backward
from cpm_repro.training.start import start_from
from cpm_repro.training.validate import predict_dataset, score_stages
from cpm_repro.training.watch import Display, Status, clock

_WINDOW = 50
"""Steps over which the displayed losses and times are averaged."""


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves in memory; everything is in the run folder too."""

    folder: Path
    net: PoseMachine
    tables: list[ScoreTable]  # validation, one per stage
    iterations: int
    seconds: float


def train(config: TrainConfig, out: Path, *, resume: bool = False) -> RunResult:
    """Train until the budget of ``config`` is spent, leaving a run folder at ``out``.

    With ``resume`` the run in ``out`` goes on after its last checkpoint, and makes the same losses it
    would have made without the interruption: bit for bit on a CPU with the same number of threads, when
    the budget is a number of iterations. An ``out`` without a checkpoint is then simply started.

    Raises:
        UserError: a setting, data set or checkpoint that cannot work; before any work is done.
        EnvironmentFailure: the run folder cannot be written.
    """
    check(config)
    keep_freed_memory()
    folder = RunFolder(out)
    saved = load_checkpoint(folder.last) if resume and folder.last.exists() else None
    if saved is not None:
        _check_same_run(saved, config, folder)
    run = _Run(config, folder, resume=resume, saved=saved)
    try:
        run.open()
        run.work()
        return run.finish()
    finally:
        run.close()


def _check_same_run(saved: Checkpoint, config: TrainConfig, folder: RunFolder) -> None:
    if (difference := first_difference(saved.config, config)) is not None:
        raise UserError(
            f"{folder.last} belongs to another run: wanted {difference}; resume with the settings it was "
            f"started with, or train into another folder"
        )


class _Run:
    """State of one run between its first and its last iteration."""

    def __init__(
        self, config: TrainConfig, folder: RunFolder, *, resume: bool, saved: Checkpoint | None
    ) -> None:
        self.config, self.folder = config, folder
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.train_set: PoseDataset = open_dataset(config.data, "train", seed=config.seed)
        self.val_set: PoseDataset = open_dataset(
            config.data, "val", seed=config.seed, size=config.validate_people
        )
        person = describe(config.network.arch).input_blob == "image"
        if person:
            self.train_set, self.val_set = PersonCentres(self.train_set), PersonCentres(self.val_set)
        if len(self.train_set) < config.solver.batch:
            raise UserError(
                f"{config.data}: wanted at least one batch of {config.solver.batch} people, "
                f"got {len(self.train_set)}"
            )
        if self.train_set.skeleton.torso is None and not person:
            raise UserError(
                f"{config.data}: its skeleton names no torso, and validation divides distances by it: "
                f"name torso = [part, part] in the skeleton file"
            )
        self.net = self._build_net(fresh=saved is None)
        self.phases = phases_of(config.scheme, self.net.stages, config.stage_wise_share)
        check_budget(self.phases, config.iterations)
        self.phase, self.phase_start = 0, 0
        self.average = Average(self.net, config.solver.average) if config.solver.average else None
        compiled = config.solver.compile and self.device.type == "cuda"
        self.forward = torch.compile(self.net) if compiled else self.net
        folder.start(config, resume=resume)
        self.bf16 = use_bf16(config.solver.precision, self.device)
        self.saved, self.resume = saved, resume
        self.iteration, self.seconds, self.best = 0, 0.0, -1.0
        self.recent: deque[tuple[list[float], float, float]] = deque(maxlen=_WINDOW)
        self.tables: list[ScoreTable] = []
        self.loader: TrainLoader | None = None
        self.display = Display()
        self.cores = Cores(1)

    def open(self) -> None:
        """Take the cores, make the optimiser, and go back to the saved state if there is one."""
        self.cores = cores_for(self.net, self.device, self.config.solver.batch)
        self.optimizers: Optimizers = build_optimizers(self.net, self.config.solver, self.cores.map)
        if self.saved is not None:
            self._restore(self.saved)
        elif self.started_from:
            self.display.say(self.started_from)
        self._enter_phase(self.phase)
        if self.resume:
            self.folder.rewind(self.iteration)

    def _enter_phase(self, index: int) -> None:
        """Freeze and free what the phase says; a phase that follows another starts without its momentum."""
        if index != self.phase:
            self.phase, self.phase_start = index, self.iteration
            self.best = -1.0  # scores of other stages
            self.recent.clear()
            self.optimizers.forget()
        enter(self.net, self.phases[index])
        if len(self.phases) > 1:
            self.display.say(f"phase {index + 1} of {len(self.phases)}, {self.phases[index]}")

    def _build_net(self, *, fresh: bool) -> PoseMachine:
        net = build_from(self.config.network, parts=len(self.train_set.skeleton))
        if net.parts != len(self.train_set.skeleton):
            raise UserError(
                f"{self.config.data} labels {len(self.train_set.skeleton)} parts, the network has {net.parts}"
            )
        generator = torch.Generator().manual_seed(self.config.seed)
        initialise(net, self.config.solver.initialisation, generator)
        self.started_from = start_from(net, self.config) if fresh else ""
        net = net.to(self.device)
        return net.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]

    def _restore(self, saved: Checkpoint) -> None:
        self.net.load_state_dict(saved.model if saved.raw is None else saved.raw)
        if self.average is not None:
            self.average.load_state_dict(saved.model)
        self.optimizers.load_state_dict(saved.optimizers)
        self.iteration, self.seconds, self.best = saved.iteration, saved.seconds, saved.best
        self.phase, self.phase_start = saved.phase, saved.phase_start
        if self.folder.best.exists():  # a kill between the best state's save and the last one's
            best = load_checkpoint(self.folder.best)
            self.best = max(self.best, best.best) if best.phase == saved.phase else self.best

    def work(self) -> None:
        """Iterate until the budget is spent, saving and validating on the way."""
        started = time.monotonic() - self.seconds
        saved_at = time.monotonic()
        next_validation = self._next_validation()
        batches = iter(self._open_loader())
        while (progress := self.progress()) < 1.0:
            begin = time.monotonic()
            if (index := phase_at(self.phases, progress)) != self.phase:
                self._enter_phase(index)
            batch = next(batches)
            waited = time.monotonic() - begin
            factor = self._lr_factor(progress)
            losses = self._step(batch, factor)
            self.iteration += 1
            self.seconds = time.monotonic() - started
            took = time.monotonic() - begin
            self.recent.append((losses, waited, took))
            self._log(losses, factor, waited, took)
            self._show(factor)
            due = self._checkpoint_due(saved_at)
            if self.progress() >= next_validation and next_validation < 1.0:
                self.validate()
                next_validation = self._next_validation()
                self.seconds = time.monotonic() - started
                due = True
            if due:
                self.save()
                saved_at = time.monotonic()

    def _lr_factor(self, progress: float) -> float:
        """Every phase runs through the whole schedule."""
        phase = self.phases[self.phase]
        return lr_factor(self.config.solver, self.iteration - self.phase_start, phase.progress(progress))

    def progress(self) -> float:
        """Share of the budget spent: of iterations or of minutes, whichever is further."""
        shares = []
        if self.config.iterations:
            shares.append(self.iteration / self.config.iterations)
        if self.config.minutes:
            shares.append(self.seconds / (60 * self.config.minutes))
        return max(shares)

    def _next_validation(self) -> float:
        """The next multiple of ``validate_every`` on the budget's axis."""
        every = self.config.validate_every
        return every * (int(self.progress() / every + 1e-9) + 1)

    def _open_loader(self) -> TrainLoader:
        self.loader = TrainLoader(
            self.train_set,
            self.config.augment,
            self.config.solver.batch,
            self.config.seed,
            workers=self.config.workers,
            start=self.iteration,
        )
        return self.loader

    def _step(self, batch: Batch, factor: float) -> list[float]:
        """One update; the loss of every stage before it."""
        # Every iteration's random numbers (dropout) follow from its number alone, so a resumed run draws
        # what the uninterrupted one would have drawn.
        torch.manual_seed(self.config.seed * 1_000_003 + self.iteration)
        image, center, joints, visible = (
            item.to(self.device) for item in (batch.image, batch.center, batch.joints, batch.visible)
        )
        phase = self.phases[self.phase]

        def loss_of(part: slice) -> Tensor:
            data = network_input(image[part], center[part])[:, : self.net.input_channels]
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                maps = self.forward(data.contiguous(memory_format=torch.channels_last), phase.stages)
            return stage_losses(maps, joints[part], visible[part], self.config.target, len(image))

        values = sharded_backward(self.net, self.cores, len(image), loss_of, phase.weights())
        if not all(value < float("inf") for value in values):
            raise UserError(
                f"the loss is no longer finite at iteration {self.iteration} (per stage {values}): "
                f"lower the learning rate (now {self.config.solver.lr * factor:.2e})"
            )
        if self.config.solver.clip > 0:
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.config.solver.clip)
        self.optimizers.step(factor)
        if self.average is not None:
            self.average.update(self.iteration)
        return values

    def _log(self, losses: list[float], factor: float, waited: float, took: float) -> None:
        self.folder.append(
            {
                "kind": "train",
                "iteration": self.iteration,
                "phase": self.phases[self.phase].name,
                "seconds": round(self.seconds, 3),
                "lr": self.config.solver.lr * factor,
                "loss": losses,
                "data_time": round(waited, 5),
                "step_time": round(took, 5),
            }
        )

    def _show(self, factor: float) -> None:
        progress = self.progress()
        losses, waits, steps = zip(*self.recent, strict=True)
        self.display.show(
            Status(
                iteration=self.iteration,
                progress=progress,
                seconds_left=self.seconds * (1 - progress) / max(progress, 1e-9),
                data_time=fmean(waits),
                step_time=fmean(steps),
                lr=self.config.solver.lr * factor,
                losses=[fmean(stage) for stage in zip(*losses, strict=True)],
            )
        )

    def _checkpoint_due(self, saved_at: float) -> bool:
        every = self.config.checkpoint_iterations
        if every:
            return self.iteration % every == 0
        return time.monotonic() - saved_at > 60 * self.config.checkpoint_minutes

    def save(self, path: Path | None = None) -> None:
        """Write the state as ``last.pt`` (or to ``path``)."""
        save_checkpoint(
            path or self.folder.last,
            Checkpoint(
                self.config,
                self.iteration,
                self.seconds,
                self.best,
                self.net.state_dict() if self.average is None else self.average.state_dict(),
                self.optimizers.state_dict(),
                self.train_set.skeleton,
                self.phase,
                self.phase_start,
                None if self.average is None else self.net.state_dict(),
            ),
        )

    def validate(self) -> None:
        """Score every stage that the phase runs on the held-out people; keep the phase's best state."""
        with self.average.applied() if self.average is not None else nullcontext():
            predictions = predict_dataset(
                self.net, self.val_set, self.config.augment, self.cores, stages=self.phases[self.phase].stages
            )
        self.tables = score_stages(predictions, self.val_set)
        totals = [table.total for table in self.tables]
        self.folder.append(
            {
                "kind": "validation",
                "iteration": self.iteration,
                "phase": self.phases[self.phase].name,
                "seconds": round(self.seconds, 3),
                "pck": totals,
            }
        )
        stages = " / ".join(f"{total:.1f}" for total in totals)
        self.display.say(
            f"{clock(self.seconds)}  iteration {self.iteration}: validation PCK@0.2 per stage {stages} %"
        )
        if totals[-1] > self.best:
            self.best = totals[-1]
            self.save(self.folder.best)

    def finish(self) -> RunResult:
        """Score and save the final state (again, when a finished run is asked to go on)."""
        if self.phase != (last := len(self.phases) - 1):  # the clock ran out before its first update
            self._enter_phase(last)
        self.folder.rewind(self.iteration, keep_validation=False)
        self.save()
        self.validate()
        self.save()  # once more: the score of the final state belongs to it
        leave(self.net)
        if self.average is not None:
            self.net.load_state_dict(self.average.state_dict())
        return RunResult(self.folder.path, self.net.eval(), self.tables, self.iteration, self.seconds)

    def close(self) -> None:
        """Stop all threads and leave the terminal clean."""
        self.cores.close()
        if self.loader is not None:
            self.loader.close()
        self.display.close()
