"""One update of a network: the trainer's step against a plain eager PyTorch loop, on the same people.

Both start from crops and joints on the device and end with moved weights; reading and augmenting photographs
is left out (`training_photographs.py` has all of it). The plain loop is what one would write first: targets
made map by map in torch, an eager float32 forward pass, the loss of every stage by torch's own operation,
``backward``, the same optimiser. With ``--device cuda`` the six-stage network is measured at its full size,
with TF32 off and on in the plain loop, and against the bfloat16 matrix rate; ``--quick`` does the same with a
narrow one in a small crop, on any device.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from cpm_repro.bench import Case, Goal, Question, largest, main
from cpm_repro.config import TrainConfig, override, preset
from cpm_repro.data import Batch
from cpm_repro.device import float32_products
from cpm_repro.inference.network_input import network_input
from cpm_repro.model import PoseMachine, build, describe, initialise
from cpm_repro.model.cost import training_operations
from cpm_repro.training.ranks import Ranks
from cpm_repro.training.recipe import Optimizers, build_optimizers
from cpm_repro.training.schemes import phases_of
from cpm_repro.training.sharding import Cores, cores_for
from cpm_repro.training.step import Step

_PARTS = 14

_CHECKED = 2
"""People in the batch of the check: both ways in float32 over sixteen would take longer than the timing."""


def people(config: TrainConfig, device: str) -> Batch:
    """A batch of noise with joints in it; the work does not depend on what is in the pictures."""
    generator = torch.Generator().manual_seed(0)
    count, crop = config.solver.batch, config.augment.crop
    image = torch.randint(0, 256, (count, crop, crop, 3), dtype=torch.uint8, generator=generator)
    joints = crop * torch.rand(count, 1, _PARTS, 2, generator=generator)
    visible = torch.ones(count, 1, _PARTS, dtype=torch.uint8)
    center = torch.full((count, 2), crop / 2.0)
    return Batch(*(item.to(device) for item in (image, joints, visible, center)))


def fresh(config: TrainConfig, device: str) -> PoseMachine:
    """The network with the same weights every time."""
    net = build(config.network.arch, parts=_PARTS, width=config.network.width, filled=False)
    initialise(net, config.solver.initialisation, torch.Generator().manual_seed(0))
    net = net.to(device)
    return net.train()


class Plain:
    """The loop one would write first; ``tf32`` allows it in convolutions."""

    def __init__(self, net: PoseMachine, config: TrainConfig, optimizers: Optimizers, *, tf32: bool) -> None:
        self.net, self.config, self.optimizers, self.tf32 = net, config, optimizers, tf32

    def target(self, batch: Batch, cells: int) -> Tensor:
        """(N, K + 1, cells, cells): Gaussians of the one person, and the background."""
        device = batch.joints.device
        grid = torch.arange(cells, device=device) * 8 + 3.5
        x, y = batch.joints[:, 0, :, 0, None, None], batch.joints[:, 0, :, 1, None, None]
        e = ((grid[None, :] - x) ** 2 + (grid[:, None] - y) ** 2) / (2 * self.config.target.sigma**2)
        maps = torch.where(e > 4.6052, 0.0, torch.exp(-e))
        return torch.cat([maps, 1 - maps.amax(dim=1, keepdim=True)], dim=1)

    def __call__(self, batch: Batch) -> list[float]:
        """One update; the stages' losses before it."""
        with float32_products(batch.image.device, tf32=self.tf32):
            return self._update(batch)

    def _update(self, batch: Batch) -> list[float]:
        maps = self.net(network_input(batch.image, batch.center))
        target = self.target(batch, maps[0].shape[-1])
        squares = [nn.functional.mse_loss(belief, target, reduction="sum") for belief in maps]
        losses = torch.stack(squares) / (2 * len(batch.image))
        self.net.zero_grad()
        losses.sum().backward()
        self.optimizers.step(1.0)
        return losses.tolist()


class Ours:
    """The trainer's step, which sets TF32 by its precision, with all that the trainer has around it open.

    On a CPU every core takes its share of the batch, as in a run; the threads are taken for the time of the
    call alone, so that the plain loop has all of them when it is its turn.
    """

    def __init__(self, net: PoseMachine, config: TrainConfig, device: str) -> None:
        self.net, self.config = net, config
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizers = build_optimizers(net, config.solver)
        failures = Path(tempfile.gettempdir()) / "training_step"
        ranks = Ranks(device=torch.device(device))
        self.step = Step(net, config, self.optimizers, Cores(1), ranks, failures)
        (self.phase,) = phases_of("end-to-end", net.stages)

    def __call__(self, batch: Batch) -> list[float]:
        """One update; the stages' losses before it."""
        with cores_for(self.net, self.step.device, self.config.solver.batch) as cores:
            self.step.cores = cores
            return self.step(batch, 0, self.phase, 1.0).losses


def difference(start: PoseMachine, config: TrainConfig, device: str, rate: float) -> float:
    """Largest relative difference of the stages' losses over three float32 updates, without dropout.

    By Caffe's SGD at ``rate``: AdamW and Muon move a weight whose gradient is nearly zero by the sign of its
    rounding error, which at full size made two correct ways differ by 2e-3. Rates are such that the losses
    fall by some percent, so that a gradient that is wrong by two percent shows.
    """
    few = min(_CHECKED, config.solver.batch)
    continuous = {"solver.optimizer": "caffe_sgd", "solver.lr": rate, "solver.weight_decay": 0.0}
    config = override(
        config,
        {"solver.precision": "float32", "solver.compile": False, "solver.batch": few, **continuous},
    )
    batch = people(config, device)
    ours_net, plain_net = copy.deepcopy(start), copy.deepcopy(start)
    for module in (*ours_net.modules(), *plain_net.modules()):
        if isinstance(module, nn.Dropout):
            module.eval()  # the two would drop different features
    ours = Ours(ours_net, config, device)
    plain = Plain(plain_net, config, build_optimizers(plain_net, config.solver), tf32=False)
    pairs = [zip(ours(batch), plain(batch), strict=True) for _ in range(3)]
    return largest(abs(a - b) / abs(b) for pair in pairs for a, b in pair)


def case(
    name: str,
    config: TrainConfig,
    device: str,
    rate: float,
    goals: tuple[Goal, ...] = (),
    budget: float = 20.0,
) -> Case:
    """Ours as configured, the plain loop without and with TF32, and on a CPU ours in float32."""
    batch, start = people(config, device), fresh(config, device)

    def plain(*, tf32: bool) -> Plain:
        net = copy.deepcopy(start)
        return Plain(net, config, build_optimizers(net, config.solver), tf32=tf32)

    ours = Ours(copy.deepcopy(start), config, device)
    works: dict[str, Ours | Plain] = {"trainer": ours, "plain eager loop": plain(tf32=False)}
    if device == "cuda" or goals:
        works["plain eager loop, TF32"] = plain(tf32=True)
    else:
        exact = override(config, {"solver.precision": "float32"})
        works["trainer, float32"] = Ours(copy.deepcopy(start), exact, device)
    size, network = config.augment.crop, config.network
    person = training_operations(describe(network.arch, parts=_PARTS, width=network.width), size, size)
    return Case(
        name,
        {way: partial(_call, work, batch) for way, work in works.items()},
        check=partial(difference, start, config, device, rate),
        tolerance=1e-4,
        operations=person * config.solver.batch,
        axis=("people", config.solver.batch),
        precision="bfloat16" if ours.step.cast == torch.bfloat16 else "float32",
        goals=goals,
        budget=budget,
    )


_GOALS = (Goal("plain eager loop", 2.5), Goal("plain eager loop, TF32", 1.5), Goal("limit", 0.5))


def _call(work: Ours | Plain, batch: Batch, _: int) -> list[float]:
    return work(batch)


def ask(quick: bool, device: str) -> Question:
    """``tiny`` anywhere; the six-stage network at its full size on a GPU, narrow where it has to be quick."""
    tiny = replace(preset("tiny"), name="tiny")
    notes = [
        "Rates of learning are the presets'; a batch that is trained on again and again costs what any does.",
        "Targets of the plain loop are of one person; the trainer draws everybody.",
    ]

    def cases() -> Iterator[Case]:
        if device == "cuda" or quick:
            narrow = {"network.width": 0.05, "augment.crop": 64, "solver.batch": 4}
            full = override(
                preset("lsp_6stage_modern"), {"solver.compile": False, **(narrow if quick else {})}
            )
            name = f"lsp_6stage{', narrow' if quick else ''}, {full.augment.crop} px, N={full.solver.batch}"
            # The rounds' budget is a part of the minute that this has in gpu_all.sh.
            yield case(name, full, device, 1e-4 if quick else 2e-7, _GOALS, budget=12.0)
        batch = 4 if quick else tiny.solver.batch
        yield case(f"tiny, N={batch}", override(tiny, {"solver.batch": batch}), device, 1e-4)

    if device == "cuda":
        notes.append(
            "The trainer is measured without torch.compile, which takes longer to begin than this lasts."
        )
    else:
        notes.append("lsp_6stage at full size on a GPU, bf16, against TF32 off and on: not measured.")
    return Question(
        "One update of the weights",
        "How long does one update take, from crops to moved weights, in the trainer and in a plain loop?",
        cases(),
        tuple(notes),
    )


if __name__ == "__main__":
    main(ask, __file__)
