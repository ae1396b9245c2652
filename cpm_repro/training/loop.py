"""The training loop, top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cpm_repro.config import TrainConfig, check, flat, to_dict
from cpm_repro.data import Batch, MixedDataset, TrainLoader
from cpm_repro.device import float32_products
from cpm_repro.evaluation import ScoreTable
from cpm_repro.memory import fitting
from cpm_repro.model import PoseMachine
from cpm_repro.training.average import Average
from cpm_repro.training.board import Board
from cpm_repro.training.budget import next_validation, spent
from cpm_repro.training.checkpoint import Found, found_in
from cpm_repro.training.checkpoint_writer import CheckpointWriter
from cpm_repro.training.estimate import estimate
from cpm_repro.training.going_on import go_on, rewind
from cpm_repro.training.gradients import GradientRecorder
from cpm_repro.training.journal import Journal, Update
from cpm_repro.training.moved import open_people_of
from cpm_repro.training.prefetch import loader_threads, loading
from cpm_repro.training.ranks import Ranks, joined, restarted
from cpm_repro.training.recipe import build_optimizers, learning_rates, lr_factor
from cpm_repro.training.run_folder import RunFolder
from cpm_repro.training.saving import Saver
from cpm_repro.training.schemes import Phase, check_budget, enter, leave, phase_at, phases_of
from cpm_repro.training.sharding import Cores, cores_for, keep_freed_memory
from cpm_repro.training.start import build_net, start_from
from cpm_repro.training.state import RunState
from cpm_repro.training.step import Step
from cpm_repro.training.stopping import Stop, Stopped, stop_on_signals
from cpm_repro.training.validate import predict_dataset, score_stages


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves in memory; everything is in the run folder too."""

    folder: Path
    net: PoseMachine
    tables: list[ScoreTable]  # validation, one per stage
    iterations: int
    seconds: float
    stopped: bool = False  # by a signal, before the budget was spent; nothing was scored then


def train(
    config: TrainConfig, out: Path, *, resume: bool = False, opening: str = "", device: str | None = None
) -> RunResult:
    """Train until the budget of ``config`` is spent, leaving a run folder at ``out``.

    With ``resume`` the run in ``out`` goes on after its last checkpoint, and makes the same losses it
    would have made without the interruption: bit for bit on a CPU with the same number of threads, when
    the budget is a number of iterations. An ``out`` without a checkpoint is then simply started. A damaged
    last checkpoint is put aside for the newest intact one.

    Under torchrun the ranks share every batch, and make the updates that one process would have made; dropout
    alone draws otherwise. A restart by torchrun goes on after the last checkpoint.

    ``opening`` is printed once nothing is left that would refuse the run. ``device`` is where it trains; None
    takes a GPU when there is one (see :func:`~cpm_repro.training.ranks.joined`).

    SIGTERM and SIGINT let the update in hand end, save, and return a result that says ``stopped``.

    Raises:
        UserError: a setting, data set or checkpoint that cannot work, before any work is done; a loss or
            gradient that is no longer finite, or weights: the batch and all norms are then in ``nonfinite/``;
            too little memory.
        EnvironmentFailure: the run folder cannot be written.
    """
    keep_freed_memory()
    folder = RunFolder(out)
    with _memory(config), joined(device) as ranks, stop_on_signals() as stop:
        resume = resume or restarted()
        ranks.together(lambda: check(config, ranks.count))
        ranks.same({**flat(to_dict(replace(config, workers=0))), "out": str(out), "resume": resume})
        found = ranks.together(lambda: found_in(folder, config) if resume else None)
        ranks.same({"the checkpoint's iteration": found.checkpoint.iteration if found else None})
        run = ranks.together(lambda: _Run(config, folder, ranks, stop, resume=resume, found=found))
        # With another number of people a rank would take other shares of other batches.
        ranks.same({"people to train on": len(run.train_set), "people held out": len(run.val_set)})
        try:
            if opening:
                run.journal.say(opening)
            run.open()
            run.work()
            return run.finish()
        finally:
            run.close()


def _memory(config: TrainConfig) -> AbstractContextManager[None]:
    """Inside, too little memory is said in one line, with what to lower."""
    solver, crop = config.solver, config.augment.crop
    recompute = "" if solver.recompute else ", --set solver.recompute=true"
    return fitting(
        f"a batch of {solver.batch} crops of {crop}x{crop} px",
        f"raise --set solver.accumulate (now {solver.accumulate}: the batch goes through in so many parts)"
        f"{recompute}, or lower --batch or --set augment.crop; checkpoints are as they were",
    )


class _Run:
    """State of one run between its first and its last iteration."""

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        ranks: Ranks,
        stop: Stop,
        *,
        resume: bool,
        found: Found | None,
    ) -> None:
        self.workers = loader_threads(config.workers, ranks.device, ranks.on_this_machine)
        config = replace(config, workers=self.workers)
        self.config, self.folder, self.ranks, self.stop = config, folder, ranks, stop
        self.device = ranks.device
        self.train_set, self.val_set = open_people_of(config, found)
        self.net = build_net(config, len(self.train_set.skeleton))
        self.started_from = start_from(self.net, config, self.train_set.skeleton) if found is None else ""
        self.net = self.net.to(self.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.phases = phases_of(config.scheme, self.net.stages, config.stage_wise_share)
        check_budget(self.phases, config.iterations)
        if ranks.first:
            folder.start(config, resume=resume)
        self.found, self.resume = found, resume
        self.validated = 0.0  # progress at the end of the last validation, 0: there was none
        self.scored = -1  # iteration that it was of
        self.stopping = False
        self.tables: list[ScoreTable] = []
        self.journal = Journal(folder, writes=ranks.first)
        self.writer = CheckpointWriter()
        self.cores = Cores(1)

    def open(self) -> None:
        """Make what trains, go back to the saved state if there is one, and say what will be done."""
        self._make()
        state, writes = self.state, self.ranks.first
        if self.found is not None:
            go_on(state, self.found, self.folder, self.journal, writes=writes)
        elif self.started_from:
            self.journal.say(self.started_from)
        self.journal.say(self._size())
        self.ranks.copy_first([*self.net.parameters(), *(state.average.values if state.average else ())])
        self._enter_phase(state.phase)
        share = range(self.config.solver.batch)[self.ranks.share(self.config.solver.batch)]
        expected = estimate(self.net, self.config, len(share), self.cores.count, self.step.cast)
        self.journal.say(expected.said(self.config, state.iteration, state.seconds))
        self.journal.open_board(state.iteration)
        if self.resume:
            known = rewind(state, self.folder, self.step.recorder) if writes else (0.0, 0)
            self.validated, scored = self.ranks.sum(known)
            self.scored = round(scored)
            if writes:
                self.journal.recall(self.phase.name, state.seconds, self.progress())

    def _make(self) -> None:
        """Take the cores; make the optimiser, the updates, and the state that they move and that is saved."""
        alone = self.ranks.count == 1  # several ranks are the shares themselves
        self.cores = cores_for(self.net, self.device, self.config.solver.batch) if alone else Cores(1)
        optimizers = build_optimizers(self.net, self.config.solver, self.cores.map)
        failures, every = self.folder.path / "nonfinite", self.config.record_gradients
        recorder = GradientRecorder(self.folder.gradients, every) if every and self.ranks.first else None
        self.step = Step(self.net, self.config, optimizers, self.cores, self.ranks, failures, recorder)
        decay, people = self.config.solver.average, self.train_set
        self.state = RunState(
            config=self.config,
            net=self.net,
            average=Average(self.net, decay) if decay else None,
            optimizers=optimizers,
            scale=self.step.scale,
            skeleton=people.skeleton,
            people=len(people),
        )
        self.saver = Saver(self.folder, self.state, self.step, self.writer, writes=self.ranks.first)

    def _size(self) -> str:
        """The network, how many people are there, and how many threads prepare them."""
        net, samples = self.net, len(self.train_set)
        people = self.train_set.people if isinstance(self.train_set, MixedDataset) else samples
        weighted = f" in {samples} samples by their weights" if people != samples else ""
        return (
            f"{net.arch}: {net.stages} stages, {net.parts} parts, "
            f"{people} people to train on{weighted}, {len(self.val_set)} held out, "
            f"batches by {self.workers} thread{'' if self.workers == 1 else 's'}"
        )

    @property
    def phase(self) -> Phase:
        """The phase that the run is in."""
        return self.phases[self.state.phase]

    def _enter_phase(self, index: int) -> None:
        """Freeze and free what the phase says; a phase that follows another starts without its momentum."""
        state = self.state
        if index != state.phase:
            self._warn_of_skipped(self.phases[state.phase + 1 : index])
            state.phase, state.phase_start = index, state.iteration
            state.best = -1.0  # scores of other stages
            self.journal.forget()
            state.optimizers.forget()
        enter(self.net, self.phases[index])
        if len(self.phases) > 1:
            self.journal.say(f"phase {index + 1} of {len(self.phases)}, {self.phases[index]}")

    def _warn_of_skipped(self, phases: Sequence[Phase]) -> None:
        """Say which ``phases`` a budget of minutes left no time for."""
        for phase in phases:
            self.journal.say(
                f"warning: no update in the phase {phase.name}: validation took its time; raise --minutes or "
                f"validate_every, or lower validate_people"
            )

    def work(self) -> None:
        """Iterate until the budget is spent or a stop is asked for, saving and validating on the way."""
        self.started = time.monotonic() - self.state.seconds
        with loading(self._loader(), self.device) as batches:
            while not self._over():
                self.writer.look()
                if self._validation_due():
                    due = self.validate()
                else:
                    self._update(batches, self.progress())
                    due = self.saver.due()
                self.state.seconds = time.monotonic() - self.started
                if due:
                    self.saver.save()

    def _validation_due(self) -> bool:
        """Whether the multiple of ``validate_every`` after the last validation is reached, by new weights."""
        following = next_validation(self.config.validate_every, self.validated)
        return self.state.iteration != self.scored and self.progress() >= following

    def _over(self) -> bool:
        """Whether the budget is spent or any rank was asked to stop; all ranks say the same, by one clock."""
        asked, self.state.seconds = self.ranks.sum(
            [float(self.stop.asked), self.state.seconds if self.ranks.first else 0.0]
        )
        self.stopping = asked > 0
        return self.stopping or self.progress() >= 1.0

    def _update(self, batches: Iterator[Batch], progress: float) -> None:
        begin = time.monotonic()
        if (index := phase_at(self.phases, progress)) != self.state.phase:
            self._enter_phase(index)
        phase = self.phase
        batch = next(batches)
        waited = time.monotonic() - begin
        factor = self._lr_factor(progress)
        done = self.step(batch, self.state.iteration, phase, factor)
        if self.state.average is not None and math.isfinite(done.gradient_norm):
            self.state.average.update(self.state.iteration - self.state.phase_start)  # a training of its own
        self.state.iteration += 1
        now = time.monotonic()
        self.state.seconds = now - self.started
        self.journal.update(
            Update(
                iteration=self.state.iteration,
                phase=phase.name,
                seconds=self.state.seconds,
                progress=self.progress(),
                rates=learning_rates(self.config.solver, factor),
                losses=done.losses,
                cells=self.net.maps * self.net.map_size(self.config.augment.crop) ** 2,
                gradient_norm=done.gradient_norm,
                waited=waited,
                took=now - begin,
                trained=phase.losses,
            )
        )

    def _lr_factor(self, progress: float) -> float:
        """Every phase runs through the whole schedule."""
        made = self.state.iteration - self.state.phase_start
        return lr_factor(self.config.solver, made, self.phase.progress(progress))

    def progress(self) -> float:
        """Share of the budget spent."""
        return spent(self.config, self.state.iteration, self.state.seconds)

    def _loader(self) -> TrainLoader:
        """This rank's crops, from the next update's on."""
        return TrainLoader(
            self.train_set,
            self.config.augment,
            self.config.solver.batch,
            self.config.seed,
            workers=self.workers,
            start=self.state.iteration,
            share=self.ranks.share(self.config.solver.batch),
        )

    def validate(self) -> bool:
        """Score every stage that the phase runs on the held-out people; keep the phase's best state.

        False: a stop was asked for on the way and nothing was scored; a resumed run does it again.

        Raises:
            UserError: a weight is not finite: nothing is scored.
        """
        self.saver.check_weights()
        phase = self.phase
        try:
            tf32 = self.config.solver.precision == "tf32"
            with self.state.averaged(), float32_products(self.device, tf32=tf32):
                predictions = predict_dataset(
                    self.net,
                    self.val_set,
                    self.config.augment,
                    self.cores,
                    stages=phase.stages,
                    stop=self.stop,
                    ranks=self.ranks,
                )
        except Stopped:
            return False
        # Rank 0's clock went on: what came due meanwhile would score the same weights again.
        (seconds,) = self.ranks.sum([time.monotonic() - self.started if self.ranks.first else 0.0])
        self.validated, self.scored = spent(self.config, self.state.iteration, seconds), self.state.iteration
        self.tables = score_stages(predictions, self.val_set)
        totals = [table.total for table in self.tables]
        self.journal.validation(self.state.iteration, phase.name, self.state.seconds, totals)
        self.journal.on_board(self._draw)
        if totals[-1] > self.state.best:
            self.state.best = totals[-1]
            self.saver.save(self.folder.best)
        return True

    def _draw(self, board: Board) -> None:
        """The last update's gradients, and what the network believes."""
        board.gradients(self.state.iteration, self.net)
        stages = self.phase.stages
        with self.state.averaged():
            board.beliefs(self.state.iteration, self.net, self.val_set, self.config.augment, stages)

    def finish(self) -> RunResult:
        """Score and save the final state (again, when a finished run is asked to go on)."""
        if self.stopping:
            return self._stopped()
        if self.state.phase != (last := len(self.phases) - 1):  # the clock ran out before its first update
            self._enter_phase(last)
            self._warn_of_skipped(self.phases[last:])
        if self.ranks.first:
            self.folder.rewind(self.state.iteration, keep_validation=False)
        self.saver.save()
        if not self.validate():
            return self._stopped()
        self.saver.save()  # once more: the score of the final state belongs to it
        self.writer.wait()
        return self._result()

    def _stopped(self) -> RunResult:
        self.saver.save()
        self.writer.wait()
        self.journal.say(f"stopped and saved after iteration {self.state.iteration}; go on with --resume")
        return replace(self._result(), stopped=True)

    def _result(self) -> RunResult:
        leave(self.net)
        state = self.state
        if state.average is not None:
            self.net.load_state_dict(state.average.state_dict())
        return RunResult(self.folder.path, self.net.eval(), self.tables, state.iteration, state.seconds)

    def close(self) -> None:
        """Stop all threads, after what they are writing, and leave the terminal clean and the folder free."""
        self.writer.close()
        self.cores.close()
        self.journal.close()
        self.folder.leave()
