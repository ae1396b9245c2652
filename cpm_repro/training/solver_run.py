"""``cpm train --solver``: training as a solver prototxt says: Caffe's update, intervals and snapshots."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from cpm_repro import ops
from cpm_repro.caffe.net import CaffeNet
from cpm_repro.caffe.resume import history_of, optimizer_for, restore_history
from cpm_repro.caffe.solverstate import SolverState, read_solverstate, write_solverstate
from cpm_repro.data import Batch, PoseDataset, TrainLoader, open_dataset
from cpm_repro.data.release import ReleaseAugment
from cpm_repro.data.sample import PoseSample
from cpm_repro.errors import UserError
from cpm_repro.files import write_json
from cpm_repro.skeleton import Visibility
from cpm_repro.training.estimate import estimate_solver
from cpm_repro.training.failure import save_failure
from cpm_repro.training.run_folder import RunFolder, environment
from cpm_repro.training.solver_plan import DataSettings, SolverPlan, read_plan
from cpm_repro.training.stopping import stop_on_signals
from cpm_repro.training.watch import Display, clock

_SPEED_WINDOW = 50
"""Iterations over which the time left is estimated."""


def train_solver(
    path: Path,
    out: Path,
    *,
    data: str | None = None,
    snapshot: Path | None = None,
    weights: Path | None = None,
    iterations: int | None = None,
    seed: int | None = None,
    workers: int = 1,
) -> Path:
    """Train what the solver prototxt ``path`` says; the last ``.caffemodel`` written.

    Net, fillers, dropout, data parameters, rates and intervals are the prototxts'. Samples come in an order
    of our own (a permutation per epoch), where the original reads its LMDB from front to back.

    Args:
        path: solver prototxt; its files are looked for in the working folder, as Caffe does, then beside it.
        out: folder for ``metrics.jsonl`` and the environment; ``snapshot_prefix`` is relative to it.
        data: a data set to use instead of the data layer's source.
        snapshot: a ``.solverstate``, of this program or of Caffe, to go on from exactly.
        weights: a ``.caffemodel`` to start from, by layer name.
        iterations: stop there instead of at ``max_iter``; rates still follow the file's.
        seed: of fillers, order and augmentation; None takes ``random_seed``, or 0 where that is not set.
        workers: threads that prepare batches.

    Raises:
        UserError: prototxts, data or snapshots that cannot be trained from, before any work is done; a loss
            or gradient that is no longer finite: the batch and all norms are then in ``nonfinite/``.
    """
    plan = read_plan(path)
    if snapshot is not None and weights is not None:
        raise UserError("wanted --snapshot or --weights, got both: a snapshot has weights of its own")
    if seed is None:
        seed = max(0, int(plan.solver.random_seed))
    dataset = _open_data(plan, data)
    run = _SolverRun(plan, dataset, out, iterations or plan.solver.max_iter, seed)
    try:
        run.start(snapshot, weights)
        return run.work(workers)
    finally:
        run.display.close()


def _open_data(plan: SolverPlan, given: str | None) -> PoseDataset:
    settings = plan.data
    source = given or str(plan.find(settings.source))
    if given is None and not Path(source).exists():
        raise UserError(f"{plan.path}: its data layer's source {settings.source} is not there: give --data")
    dataset = open_dataset(source, "train")
    if len(dataset.skeleton) != settings.parts:
        raise UserError(
            f"{source} labels {len(dataset.skeleton)} parts, the data layer wanted num_parts {settings.parts}"
        )
    if len(dataset) < settings.batch:
        raise UserError(f"{source}: wanted at least one batch of {settings.batch} people, got {len(dataset)}")
    return dataset if dataset[0].scale > 0 else _Scaled(dataset)


class _Scaled:
    """A data set whose people have no scale, by which the data layer crops: the joints' box over 200 px."""

    def __init__(self, dataset: PoseDataset) -> None:
        self._dataset = dataset
        self.name = f"{dataset.name} (no scales: taken from the joints' boxes)"
        self.skeleton = dataset.skeleton

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> PoseSample:
        sample = self._dataset[index]
        return sample if sample.scale > 0 else replace(sample, scale=sample.extent / 200)


def batch_blobs(batch: Batch, settings: DataSettings, device: torch.device) -> dict[str, Tensor]:
    """The data layer's tops: data (N, 4, H, W) and label (N, 2 * (parts + 1), H / stride, W / stride)."""
    image, center = batch.image.to(device), batch.center.to(device)
    height, width = image.shape[1:3]
    data = torch.empty((len(image), 4, height, width), device=device)
    data[:, :3] = image.permute(0, 3, 1, 2)
    data[:, :3].sub_(128).mul_(1 / 256)
    data[:, 3:] = ops.center_map(center, size=(height, width), sigma=settings.sigma_center)
    label = ops.belief_maps(
        batch.joints.to(device),
        batch.visible.to(device),
        grid=(height // settings.stride, width // settings.stride),
        stride=settings.stride,
        sigma=settings.sigma,
    )
    return {settings.tops[0]: data, settings.tops[1]: label}


class _SolverRun:
    """State between the first and the last iteration."""

    def __init__(self, plan: SolverPlan, dataset: PoseDataset, out: Path, until: int, seed: int) -> None:
        self.plan, self.dataset, self.until, self.seed = plan, dataset, until, seed
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        state = plan.solver.train_state
        self.net = CaffeNet(plan.net, "TRAIN", level=state.level, stages=plan.stages, seed=seed)
        self.net.to(self.device)
        self.optimizer = optimizer_for(self.net, plan.solver)
        self.losses = [layer.top[0] for layer, _ in self.net.steps() if layer.type.endswith("Loss")]
        self.folder = RunFolder(out)
        self.prefix = out / (plan.solver.snapshot_prefix or "snapshot")
        self.iteration = 0
        self.display = Display()
        self.shown: deque[float] = deque(maxlen=max(1, plan.solver.average_loss))
        self.took: deque[float] = deque(maxlen=_SPEED_WINDOW)

    def start(self, snapshot: Path | None, weights: Path | None) -> None:
        """Load what is gone on from, and say what will be done."""
        if snapshot is not None:
            self._restore(snapshot)
        elif weights is not None:
            self.display.say(str(self.net.load(weights)))
        self.folder.path.mkdir(parents=True, exist_ok=True)
        if snapshot is None and self.folder.metrics.exists():
            raise UserError(
                f"{self.folder.path} already holds a run: choose another --out, or go on with --snapshot"
            )
        self.folder.rewind(self.iteration)
        write_json(self.folder.path / "environment.json", environment())
        for line in (
            f"{self.plan.path}: net {self.net.net_name}, {len(self.dataset)} people of {self.dataset.name}, "
            f"batch {self.plan.data.batch}"
            + (f" x {self.optimizer.iter_size}" if self.optimizer.iter_size > 1 else "")
            + f", iterations {self.iteration} to {self.until}, snapshots {self.prefix}_iter_N",
            *self.plan.remarks,
            self._estimate(),
        ):
            self.display.say(line)

    def _estimate(self) -> str:
        """Memory and time of what is left, from one empty crop."""
        height, width = self.plan.data.augment.crop_size_y, self.plan.data.augment.crop_size_x
        nobody = Batch(
            image=torch.zeros((1, height, width, 3), dtype=torch.uint8),
            joints=torch.zeros((1, 1, self.plan.data.parts, 2)),
            visible=torch.full((1, 1, self.plan.data.parts), Visibility.CROPPED, dtype=torch.uint8),
            center=torch.zeros((1, 2)),
        )
        blobs = batch_blobs(nobody, self.plan.data, self.device)
        found = estimate_solver(
            lambda: self.net(**blobs), self.net.parameters(), self.plan.data.batch, self.optimizer.iter_size
        )
        return found.said_of_solver(self.until - self.iteration)

    def _restore(self, path: Path) -> None:
        state = read_solverstate(path)
        self.net.load(_learned_net(state, path))
        self.iteration = restore_history(self.optimizer, state)
        if self.iteration >= self.until:
            raise UserError(f"{path} is of iteration {self.iteration}, and the run ends at {self.until}")

    def work(self, workers: int) -> Path:
        """Iterate to the end, or until SIGTERM or SIGINT; the last snapshot's caffemodel."""
        settings, solver = self.plan.data, self.plan.solver
        written = None
        first = self.iteration * self.optimizer.iter_size
        loader = TrainLoader(
            self.dataset,
            ReleaseAugment(settings.augment, "exact"),
            settings.batch,
            self.seed,
            workers=workers,
            start=first,
        )
        with loader, stop_on_signals() as stop:
            while self.iteration < self.until and not stop.asked:
                begin = time.monotonic()
                losses, lr = self._step(loader)
                self.iteration += 1
                self.took.append(time.monotonic() - begin)
                self._report(losses, lr)
                if solver.snapshot and self.iteration % solver.snapshot == 0:
                    written = self._snapshot()
        if written is None or not solver.snapshot or self.iteration % solver.snapshot:
            written = self._snapshot()
        if self.iteration < self.until:
            self.display.say(f"stopped; go on with --snapshot {written.with_suffix('.solverstate')}")
        return written

    def _step(self, loader: TrainLoader) -> tuple[list[float], float]:
        """One update over ``iter_size`` batches; mean loss of every loss layer before it, and the rate."""
        torch.manual_seed(self.seed * 1_000_003 + self.iteration)  # dropout is the same after a resume
        self.optimizer.zero_grad()
        sums = torch.zeros(len(self.losses))
        for _ in range(self.optimizer.iter_size):
            batch = next(loader)
            blobs = self.net(**batch_blobs(batch, self.plan.data, self.device))
            self.net.objective(blobs).backward()
            made = torch.stack([blobs[top].detach() for top in self.losses]).cpu()
            self._check_finite(batch, made.tolist())
            sums += made
        losses = (sums / self.optimizer.iter_size).tolist()
        lr = self.plan.policy(self.iteration)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        return losses, lr

    def _check_finite(self, batch: Batch, losses: list[float]) -> None:
        """Stop before the weights are touched if anything overflowed, and keep what is known of it."""
        gradients = [weight.grad for weight in self.net.parameters() if weight.grad is not None]
        if math.isfinite(sum(losses)) and math.isfinite(float(torch.nn.utils.get_total_norm(gradients))):
            return
        what = "gradient" if math.isfinite(sum(losses)) else "loss"
        lr = self.plan.policy(self.iteration)
        saved = save_failure(self.folder.path / "nonfinite", self.iteration, batch, losses, self.net, lr)
        named = ", ".join(f"{top} {value:g}" for top, value in zip(self.losses, losses, strict=True))
        raise UserError(
            f"the {what} is no longer finite at iteration {self.iteration} ({named}): lower base_lr "
            f"(the rate is now {lr:.2e}); the batch and all norms are in {saved}"
        )

    def _report(self, losses: list[float], lr: float) -> None:
        record = {"kind": "train", "iteration": self.iteration, "lr": lr, "loss": losses}
        self.folder.append({**record, "step_time": round(self.took[-1], 5)})
        self.shown.append(sum(losses))
        every = self.plan.solver.display
        if every and self.iteration % every == 0:
            named = " ".join(f"{top} {value:.3f}" for top, value in zip(self.losses, losses, strict=True))
            left = clock(fmean(self.took) * (self.until - self.iteration))
            self.display.say(
                f"iteration {self.iteration}  loss {fmean(self.shown):.4f}  {named}  lr {lr:.3e}"
                f"  {fmean(self.took):.2f} s  left {left}"
            )

    def _snapshot(self) -> Path:
        """Weights first: a solverstate that exists has its caffemodel. Each is written atomically."""
        model = Path(f"{self.prefix}_iter_{self.iteration}.caffemodel")
        self.net.save(model)
        write_solverstate(
            model.with_suffix(".solverstate"),
            self.iteration,
            history_of(self.optimizer),
            str(model),
            self.plan.policy.current_step(self.iteration),
        )
        self.display.say(f"snapshot {model}")
        return model


def _learned_net(state: SolverState, path: Path) -> Path:
    """The caffemodel that a solverstate names: where it says, or beside it."""
    places = [
        Path(state.learned_net),
        path.parent / Path(state.learned_net).name,
        path.with_suffix(".caffemodel"),
    ]
    for place in places:
        if place.is_file():
            return place
    raise UserError(f"{path}: its weights {state.learned_net or places[-1]} are not there")
