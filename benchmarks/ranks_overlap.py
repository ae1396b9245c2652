"""Two ranks that train one network: what does adding gradients during the backward pass buy?

Two processes of one thread each share a batch over gloo and make the trainer's update. The trainer adds a
bucket of gradients while the backward pass still makes the next; beside it the same update with all gradients
added in one piece after the backward pass, and one that adds none, which is the least an exchange can cost.
"""

from __future__ import annotations

import functools
import multiprocessing
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor
from training_step import fresh, people

from cpm_repro.bench import Case, Question, largest, main
from cpm_repro.config import TrainConfig, override, preset
from cpm_repro.data import Batch
from cpm_repro.model import PoseMachine
from cpm_repro.training.parallel import Parallel
from cpm_repro.training.ranks import Ranks
from cpm_repro.training.recipe import build_optimizers
from cpm_repro.training.schemes import Phase, phases_of
from cpm_repro.training.sharding import Cores, LossOf, sharded_backward
from cpm_repro.training.step import Step

WAYS = ("added during the backward pass (trainer)", "added after it", "not added (no training)")
_CHECK, _END = 3, -1
"""What rank 0 tells rank 1 beside the ways."""


class After:
    """Adds the gradients of both ranks once all of them are there, or not at all."""

    def __init__(self, net: PoseMachine, *, added: bool) -> None:
        self.net, self.added = net, added

    def backward(self, batch: int, loss_of: LossOf, weights: Tensor, passes: int) -> Tensor:
        """As that of `Parallel`."""
        losses = sharded_backward(self.net, Cores(1), batch, loss_of, weights, passes)
        if self.added:
            gradients = [weight.grad for weight in self.net.parameters() if weight.grad is not None]
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            dist.all_reduce(flat)
            for gradient, values in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(values.view(gradient.shape))
        return losses


class StepAfter(Step):
    """The trainer's step with :class:`After` in the place of `Parallel`."""

    added = True

    def _join(self, _: Phase) -> Parallel:
        return cast(Parallel, After(self.net, added=self.added))


class StepAlone(StepAfter):
    """Every rank by itself."""

    added = False


class Two:
    """One rank's side of all ways of one case."""

    def __init__(self, config: TrainConfig, rank: int) -> None:
        self.config, self.ranks = config, Ranks(rank, 2, torch.device("cpu"))
        whole = people(config, "cpu")
        share = self.ranks.share(config.solver.batch)
        self.batch = Batch(whole.image[share], whole.joints[share], whole.visible[share], whole.center[share])
        self.steps = [self.step(kind) for kind in (Step, StepAfter, StepAlone)]

    def step(self, kind: type[Step]) -> Step:
        """A step with a network of its own, the same at the start."""
        net = fresh(self.config, "cpu").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizers = build_optimizers(net, self.config.solver)
        failures = Path(tempfile.gettempdir()) / "ranks_overlap"
        return kind(net, self.config, optimizers, Cores(1), self.ranks, failures)

    def update(self, step: Step) -> list[float]:
        """The stages' losses, of both ranks together, before an update."""
        (phase,) = phases_of("end-to-end", step.net.stages)
        return step(self.batch, 0, phase, 1.0).losses

    def check(self) -> float:
        """Largest relative difference of losses over three updates, between adding during and after."""
        during, after = self.step(Step), self.step(StepAfter)
        pairs = [zip(self.update(during), self.update(after), strict=True) for _ in range(3)]
        return largest(abs(a - b) / abs(b) for pair in pairs for a, b in pair)


def configurations(quick: bool) -> dict[str, TrainConfig]:
    """A network with few weights for its work, and one with many."""
    exact = {"solver.precision": "float32", "solver.compile": False}
    tiny = override(preset("tiny"), exact)
    wide = override(preset("lsp_6stage_modern"), exact)
    if quick:
        small = {"network.width": 0.05, "augment.crop": 64, "solver.batch": 2}
        return {"tiny, narrow": override(tiny, small)}
    return {
        "tiny, 128 px, N=16": tiny,
        "lsp_6stage, 64 px, N=4": override(wide, {"augment.crop": 64, "solver.batch": 4}),
    }


def join(rank: int, port: int) -> None:
    """Find the other rank; one thread each, as two ranks on two cores have."""
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, 2, is_master=rank == 0)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)


def follow(quick: bool, port: int) -> None:
    """Rank 1: does what rank 0 says until it says that it is over."""
    join(1, port)
    made: dict[int, Two] = {}
    configs = list(configurations(quick).values())
    while (told := _tell(0, 0))[1] != _END:
        case, what = told
        if case not in made:
            made.clear()
            made[case] = Two(configs[case], 1)
        _do(made[case], what)


def _tell(case: int, what: int) -> tuple[int, int]:
    """Rank 0's numbers, on both ranks."""
    numbers = torch.tensor([case, what])
    dist.broadcast(numbers, 0)
    return int(numbers[0]), int(numbers[1])


def _do(two: Two, what: int) -> float | list[float]:
    return two.check() if what == _CHECK else two.update(two.steps[what])


def _lead(two: Two, case: int, what: int, _: int = 0) -> float | list[float]:
    _tell(case, what)
    return _do(two, what)


def ask(quick: bool, device: str) -> Question:
    """On the CPU alone: two ranks on one GPU would share what each of them should have."""

    def cases() -> Iterator[Case]:
        if device != "cpu":
            return
        with _other(quick):
            for number, (name, config) in enumerate(configurations(quick).items()):
                two = Two(config, 0)
                check = cast(Callable[[], float], functools.partial(_lead, two, number, _CHECK))
                yield Case(
                    name,
                    {way: functools.partial(_lead, two, number, what) for what, way in enumerate(WAYS)},
                    check=check,
                    tolerance=1e-4,
                    budget=60.0,
                )

    return Question(
        "Two ranks on two cores",
        "How long does one update of two ranks take when gradients are added during the backward pass?",
        cases(),
        (
            "Both ranks and gloo's threads share the cores and the memory, as GPUs and a network do not.",
            "More than one GPU: not measured.",
        ),
    )


@contextmanager
def _other(quick: bool) -> Iterator[None]:
    """Rank 1, as long as it is open; whatever fails here, it does not outlive it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=follow, args=(quick, port), daemon=True)
    process.start()
    try:
        join(0, port)
        yield
        _tell(0, _END)
        process.join()
    finally:
        process.kill()  # one that has ended is left alone
        process.join()
        if dist.is_initialized():
            dist.destroy_process_group()


if __name__ == "__main__":
    main(ask, __file__)
