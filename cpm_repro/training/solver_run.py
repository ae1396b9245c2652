"""``cpm train --solver``: training as a solver prototxt says: Caffe's update, intervals and snapshots."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch

from cpm_repro.caffe.net import CaffeNet
from cpm_repro.caffe.resume import optimizer_for
from cpm_repro.data import Batch, PoseDataset, TrainLoader, open_dataset
from cpm_repro.data.release import ReleaseAugment
from cpm_repro.device import float32_products, usable_device
from cpm_repro.errors import UserError
from cpm_repro.evaluation import ScoreTable
from cpm_repro.files import read_json, write_json
from cpm_repro.memory import fitting
from cpm_repro.training.budget import next_validation
from cpm_repro.training.estimate import estimate_solver
from cpm_repro.training.journal import Journal, Update
from cpm_repro.training.prefetch import loader_threads, loading
from cpm_repro.training.report import Finished
from cpm_repro.training.run_folder import RunFolder, environment
from cpm_repro.training.solver_data import batch_blobs, nobody, open_people, scaled, source_of
from cpm_repro.training.solver_plan import SolverPlan, read_plan
from cpm_repro.training.solver_scores import SolverScores
from cpm_repro.training.solver_snapshots import read_snapshot, write_snapshot
from cpm_repro.training.solver_step import Done, SolverStep
from cpm_repro.training.start import check_held_out
from cpm_repro.training.stopping import Stop, Stopped, stop_on_signals
from cpm_repro.training.watch import clock

_PHASE = "solver"
"""What records call the one phase of such a run."""

_SPEED_WINDOW = 50
"""Iterations over which the time left is estimated."""


@dataclass(frozen=True)
class SolverResult:
    """What a run of a solver prototxt leaves."""

    model: Path  # the last .caffemodel written; its .solverstate lies beside it
    finished: Finished | None  # None: stopped by a signal before its end, nothing was scored then


def train_solver(
    path: Path,
    out: Path,
    *,
    data: str | None = None,
    snapshot: Path | None = None,
    weights: Path | None = None,
    iterations: int | None = None,
    seed: int | None = None,
    workers: int | None = None,
    validate_every: float = 0.25,
    validate_people: int | None = None,
    device: str | None = None,
) -> SolverResult:
    """Train what the solver prototxt ``path`` says.

    Net, fillers, dropout, data parameters, rates and intervals are the prototxts'. Samples come in an order
    of our own (a permutation per epoch), where the original reads its LMDB from front to back. Held-out
    people are scored as in runs of presets, which changes nothing of what is learned; weights of the best
    score are kept as ``<snapshot_prefix>_best.caffemodel``.

    Args:
        path: solver prototxt; its files are looked for in the working folder, as Caffe does, then beside it.
        out: folder for ``metrics.jsonl`` and the environment; ``snapshot_prefix`` is relative to it.
        data: a data set to use instead of the data layer's source.
        snapshot: a ``.solverstate``, of this program or of Caffe, to go on from exactly.
        weights: a ``.caffemodel`` to start from, by layer name.
        iterations: stop there instead of at ``max_iter``; rates still follow the file's.
        seed: of fillers, order and augmentation; None takes ``random_seed``, or 0 where that is not set.
        workers: threads that prepare batches; None: as many as suit the machine.
        validate_every: share of the iterations between two validations.
        validate_people: the first so many held-out people; None: all.
        device: where to train; None takes a GPU when there is one.

    Raises:
        UserError: prototxts, data or snapshots that cannot be trained from, before any work is done; a loss
            or gradient that is no longer finite, or weights: the batch and all norms are then in
            ``nonfinite/``.
    """
    plan = read_plan(path)
    if snapshot is not None and weights is not None:
        raise UserError("wanted --snapshot or --weights, got both: a snapshot has weights of its own")
    if seed is None:
        seed = max(0, int(plan.solver.random_seed)) % 2**32  # Caffe's generators take as many bits
    place = usable_device(device)
    source = source_of(plan, data)
    dataset = open_people(plan.data, source)
    until = iterations or plan.solver.max_iter
    run = _SolverRun(plan, dataset, out, until, seed, validate_every, place)
    try:
        size = f"{plan.data.augment.crop_size_x}x{plan.data.augment.crop_size_y} px"
        memory = fitting(
            f"a batch of {plan.data.batch} crops of {size}",
            "lower the data layer's batch_size and raise iter_size; snapshots are as they were",
        )
        with memory, float32_products(place, tf32=False):  # as Caffe computes
            run.start(snapshot, weights)
            run.hold_out(source, validate_people)
            return run.work(loader_threads(workers, place))
    finally:
        run.journal.close()
        run.folder.leave()


class _SolverRun:
    """State between the first and the last iteration."""

    def __init__(
        self,
        plan: SolverPlan,
        dataset: PoseDataset,
        out: Path,
        until: int,
        seed: int,
        validate_every: float,
        device: torch.device,
    ) -> None:
        self.plan, self.dataset, self.until, self.seed = plan, dataset, until, seed
        self.validate_every = validate_every
        self.device = device
        state = plan.solver.train_state
        self.net = CaffeNet(plan.net, "TRAIN", level=state.level, stages=plan.stages, seed=seed)
        self.net.to(self.device)
        self.optimizer = optimizer_for(self.net, plan.solver)
        self.step = SolverStep(self.net, plan, self.optimizer, seed, out / "nonfinite")
        self.folder = RunFolder(out)
        self.prefix = out / (plan.solver.snapshot_prefix or "snapshot")
        self.iteration, self.seconds, self.best = 0, 0.0, -1.0
        self.validated = 0.0  # share of the iterations made at the last validation
        self.scores: SolverScores | None = None
        self.tables: list[ScoreTable] = []
        self.kept = "there is no snapshot yet"  # what to go on from, in words
        self.journal = Journal(self.folder, writes=True)
        self.shown: deque[float] = deque(maxlen=plan.solver.average_loss)
        self.took: deque[float] = deque(maxlen=_SPEED_WINDOW)

    def start(self, snapshot: Path | None, weights: Path | None) -> None:
        """Load what is gone on from, and say what will be done."""
        if snapshot is not None:
            self.iteration = read_snapshot(snapshot, self.net, self.optimizer)
            self.kept = f"the last snapshot is {snapshot}"
            if self.iteration > self.until or (self.iteration == self.until and not self._unscored()):
                raise UserError(
                    f"{snapshot} is of iteration {self.iteration}, and the run ends at {self.until}"
                )
        elif weights is not None:
            self._start_from(weights)
        self.folder.enter()
        self._check_folder(snapshot)
        self._go_on()
        write_json(self.folder.path / "environment.json", environment())
        for line in (
            f"{self.plan.path}: net {self.net.net_name}, {len(self.dataset)} people of {self.dataset.name}, "
            f"batch {self.plan.data.batch}"
            + (f" x {self.optimizer.iter_size}" if self.optimizer.iter_size > 1 else "")
            + f", iterations {self.iteration} to {self.until}, snapshots {self.prefix}_iter_N",
            *self.plan.remarks,
            self._estimate(),
        ):
            self.journal.say(line)

    def _start_from(self, weights: Path) -> None:
        """Load weights by layer name, as Caffe does when it fine-tunes."""
        report = self.net.load(weights)
        if not report.loaded:  # a run from the fillers would look like one from these weights
            raise UserError(
                f"{weights}: wanted weights of net {self.net.net_name!r}, such as {report.untouched[0]}, got "
                f"those of {len(report.ignored)} other layers"
            )
        self.journal.say(str(report))

    def _check_folder(self, snapshot: Path | None) -> None:
        """Refuse a folder that holds another run, whose records would be cut off or mixed with this one's."""
        path, choose = self.folder.path, "choose another --out"
        if self.folder.config.exists():
            raise UserError(
                f"{path} holds a run of the preset {read_json(self.folder.config)['name']}: {choose}"
            )
        if snapshot is None and self.folder.metrics.exists():
            raise UserError(f"{path} already holds a run: {choose}, or go on with --snapshot")
        made = [record["iteration"] for record in self.folder.records() if record["kind"] == "train"]
        if snapshot is None or snapshot.resolve().parent == self.prefix.parent.resolve() or not made:
            return
        if made[0] != self.iteration + 1:  # else the run begins where this snapshot ends, and does it again
            raise UserError(f"{path} holds another run than that of {snapshot}: {choose}")

    def _go_on(self) -> None:
        """Forget the metrics of updates that are made again; take note of those that are not."""
        self.folder.rewind(self.iteration)
        kept = self.folder.records()
        self.seconds = kept[-1].get("seconds", 0.0) if kept else 0.0
        self.journal.recall(_PHASE, self.seconds, self.iteration / self.until)
        scored = [record for record in kept if record["kind"] == "validation"]
        if scored:
            self.validated = scored[-1]["iteration"] / self.until
            self.best = max(record["pck"][-1] for record in scored)

    def hold_out(self, source: str, size: int | None) -> None:
        """Open the held-out people of ``source``, the first ``size`` of them, if they can be scored."""
        try:
            people = open_dataset(source, "val", size=size)
            check_held_out(source, people)
            self.scores = SolverScores(self.net, self.plan.data, scaled(people))
        except UserError as error:
            self.journal.say(f"nothing is scored on the way: {error}")
        self.journal.open_board(self.iteration)

    def _unscored(self) -> bool:
        """Whether the folder's run stands where this one does, and was stopped before its scores."""
        kinds = {r["kind"] for r in self.folder.records() if r["iteration"] == self.iteration}
        return kinds == {"train"}

    def _estimate(self) -> str:
        """Memory and time of what is left, from one empty crop."""
        blobs = batch_blobs(nobody(self.plan.data), self.plan.data, self.device)
        batch, passes = self.plan.data.batch, self.optimizer.iter_size
        with self.net.still():
            found = estimate_solver(lambda: self.net(**blobs), self.net.parameters(), batch, passes)
        return found.said_of_solver(self.until - self.iteration)

    def work(self, workers: int) -> SolverResult:
        """Iterate to the end, or until SIGTERM or SIGINT."""
        settings, solver = self.plan.data, self.plan.solver
        written = None
        first = self.iteration * self.optimizer.iter_size
        started = time.monotonic() - self.seconds
        loader = TrainLoader(
            self.dataset,
            ReleaseAugment(settings.augment, "exact"),
            settings.batch,
            self.seed,
            workers=workers,
            start=first,
        )
        with loading(loader, self.device) as batches, stop_on_signals() as stop:
            while self.iteration < self.until and not stop.asked:
                if self._validation_due():
                    self._validate(stop)
                    continue
                self._update(batches, started)
                if solver.snapshot and self.iteration % solver.snapshot == 0:
                    written = self._snapshot()
            if written is None or not solver.snapshot or self.iteration % solver.snapshot:
                written = self._snapshot()
            if self.iteration == self.until and self._validate(stop):
                return SolverResult(written, self._finished())
        when = "" if self.iteration < self.until else " before the scores, after all iterations"
        self.journal.say(
            f"stopped{when}; go on with the same options and --snapshot {written.with_suffix('.solverstate')}"
        )
        return SolverResult(written, None)

    def _validation_due(self) -> bool:
        """Whether the multiple of ``validate_every`` after the last validation is reached."""
        following = next_validation(self.validate_every, self.validated)
        return self.scores is not None and self.iteration / self.until >= following

    def _validate(self, stop: Stop) -> bool:
        """Score the held-out people, if there are any; keep the best weights. False: a stop was asked for."""
        if self.scores is None:
            return True
        self.step.check_weights(self.kept)
        try:
            self.tables = self.scores.score(stop)
        except Stopped:
            return False
        self.validated = self.iteration / self.until
        totals = [table.total for table in self.tables]
        if totals[-1] > self.best:  # before the record of it, by which a run that goes on knows the best
            self.best = totals[-1]
            self.net.save(Path(f"{self.prefix}_best.caffemodel"))
        self.journal.validation(self.iteration, _PHASE, self.seconds, totals)
        scores, iteration = self.scores, self.iteration
        self.journal.on_board(lambda board: scores.draw(board, iteration))
        return True

    def _finished(self) -> Finished:
        settings = self.plan.data
        wide, high = settings.augment.crop_size_x, settings.augment.crop_size_y
        return Finished(
            folder=self.folder.path,
            name=self.plan.path.name,
            data=Path(self.dataset.name).name,
            network=f"{self.net.net_name}, {len(self.step.losses)} losses",
            crop=str(wide) if wide == high else f"{wide} x {high}",
            batch=settings.batch * self.optimizer.iter_size,
            optimizer="Caffe's SGD",
            scheme="as the prototxt says",
            iterations=self.iteration,
            seconds=self.seconds,
            tables=self.tables,
        )

    def _update(self, batches: Iterator[Batch], started: float) -> None:
        """One update, and what is told of it."""
        begin = time.monotonic()
        done = self.step(batches, self.iteration)
        self.iteration += 1
        now = time.monotonic()
        self.seconds = now - started
        self.took.append(now - begin)
        settings = self.plan.data
        width, height = settings.augment.crop_size_x, settings.augment.crop_size_y
        self.journal.update(
            Update(
                iteration=self.iteration,
                phase=_PHASE,
                seconds=self.seconds,
                progress=self.iteration / self.until,
                rates={"lr": done.lr},
                losses=done.losses,
                cells=(settings.parts + 1) * (height // settings.stride) * (width // settings.stride),
                gradient_norm=done.norm,
                waited=done.waited,
                took=now - begin,
            )
        )
        self._show(done)

    def _show(self, done: Done) -> None:
        """Caffe's line, every ``display`` iterations."""
        self.shown.append(done.objective)
        every = self.plan.solver.display
        if every and self.iteration % every == 0:
            named = " ".join(
                f"{top} {value:.3f}" for top, value in zip(self.step.losses, done.losses, strict=True)
            )
            left = clock(fmean(self.took) * (self.until - self.iteration))
            self.journal.say(
                f"iteration {self.iteration}  loss {fmean(self.shown):.4f}  {named}  lr {done.lr:.3e}"
                f"  {fmean(self.took):.2f} s  left {left}"
            )

    def _snapshot(self) -> Path:
        """Write one. Training waits for it: 8 bytes a parameter go to the disk, 250 MB of six stages."""
        self.step.check_weights(self.kept)
        begin = time.monotonic()
        model = write_snapshot(self.prefix, self.iteration, self.net, self.optimizer, self.plan.policy)
        waited = time.monotonic() - begin
        self.kept = f"the last snapshot is {model.with_suffix('.solverstate')}"
        long = f", for which training waited {waited:.0f} s" if waited >= 1 else ""
        self.journal.say(f"snapshot {model}{long}")
        return model
