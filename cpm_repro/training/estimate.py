"""How much memory and time a run will take, said before its first update."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from cpm_repro.config import SolverConfig, TrainConfig
from cpm_repro.device import float32_products
from cpm_repro.memory import machine_memory
from cpm_repro.model import PoseMachine
from cpm_repro.training.recipe import split_for_muon
from cpm_repro.training.watch import clock

_FILLS = 8
"""People in the probe on a GPU, to time its work and not that of launching it.

With one person the estimate was three times what an update then took on an H200.
"""

_BACKWARD = 2.0
"""The backward pass multiplies twice as much as the forward pass: for the inputs and for the weights."""


@dataclass(frozen=True)
class Estimate:
    """What one process will need."""

    state: int  # bytes of weights, their average, gradients and the optimiser's state
    activations: int  # bytes kept for the backward pass, at their most
    seconds: float  # of one update, without waiting for data
    available: int | None  # bytes of memory there are; None: unknown

    def __str__(self) -> str:
        return (
            f"estimate: {_gigabytes(self.state)} of weights, gradients and optimiser state, "
            f"{_gigabytes(self.activations)} of activations, about {self.seconds:.2g} s an update"
        )

    def said(self, config: TrainConfig, iteration: int = 0, seconds: float = 0.0) -> str:
        """The estimate and what is left of the run's budget; a second line when the memory will not do.

        Args:
            config: its iterations or minutes, whichever end first.
            iteration: updates made before.
            seconds: taken before.
        """
        left = math.inf if config.minutes is None else max(0.0, 60 * config.minutes - seconds)
        updates = math.inf if config.iterations is None else max(0, config.iterations - iteration)
        if updates * self.seconds <= left:
            budget = f"{clock(updates * self.seconds)} for {updates} updates"
        else:
            budget = f"{left / self.seconds:.0f} updates in {left / 60:.4g} min"
        advice = "split the batch (--set solver.accumulate=2 or more), or --set solver.recompute=true"
        return f"{self}, {budget}, without validation{self._warning(advice)}"

    def said_of_solver(self, iterations: int) -> str:
        """The same for a solver prototxt's run that has so many ``iterations`` before it."""
        advice = "lower the data layer's batch_size and raise iter_size"
        takes = clock(iterations * self.seconds)
        return f"{self}, {takes} for {iterations} updates, without validation{self._warning(advice)}"

    def _warning(self, advice: str) -> str:
        """A line of its own when the memory will not do; else nothing."""
        if self.available is None or self.state + self.activations < self.available:
            return ""
        return f"\nwarning: that is more than the {_gigabytes(self.available)} there are: {advice}"


def estimate(
    net: PoseMachine, config: TrainConfig, people: int, cores: int = 1, cast: torch.dtype | None = None
) -> Estimate:
    """Estimate from one forward pass, on zeros: of one person, or of as many as begin to fill a GPU.

    Args:
        net: on its device, ready to train.
        config: its crop, optimiser, average and passes.
        people: in this process's share of a batch.
        cores: that work on that share at once.
        cast: what convolutions compute in; None: float32.
    """
    device = next(net.parameters()).device
    solver = config.solver
    at_once = -(-people // (cores * solver.accumulate)) * cores
    people_at_once = min(at_once, _FILLS) if device.type == "cuda" else 1
    with float32_products(device, tf32=solver.precision == "tf32"):  # as the updates have it
        kept, seconds = _probe(net, config.augment.crop, cast, people_at_once)
    again = 1.0 if solver.recompute else 0.0
    # With recomputation one stage's activations are there at a time, on every core.
    per_person = max(kept) if solver.recompute else sum(kept)
    return Estimate(
        state=_state_bytes(net, solver, cores),
        activations=per_person * at_once,
        seconds=(1 + _BACKWARD + again) * seconds * -(-people // cores),
        available=_available(device),
    )


def estimate_solver(
    forward: Callable[[], object], weights: Iterable[Tensor], batch: int, iter_size: int
) -> Estimate:
    """Estimate a solver prototxt's run from one forward pass of one person.

    Args:
        forward: makes that pass and returns what the backward pass starts from.
        weights: the net's learned arrays, on its device.
        batch: people in one pass.
        iter_size: passes before an update.
    """
    weights = list(weights)
    forward()  # the first call allocates, chooses kernels
    with _Kept(weights).counting() as kept:
        begin = _now(weights[0].device)
        made = forward()
        seconds = _now(weights[0].device) - begin
    del made
    return Estimate(
        state=4 * 3 * sum(weight.numel() for weight in weights),  # weights, gradients, momentum
        activations=kept.total * batch,
        seconds=(1 + _BACKWARD) * seconds * batch * iter_size,
        available=_available(weights[0].device),
    )


class _Kept:
    """Counts the bytes that autograd keeps for the backward pass, ``weights`` left out."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self.total = 0
        self._known = {weight.untyped_storage().data_ptr() for weight in weights}

    @contextmanager
    def counting(self) -> Iterator[_Kept]:
        """Inside, what is kept is added to ``total``."""
        with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor):
            yield self

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._known:
            self._known.add(storage.data_ptr())
            self.total += storage.nbytes()
        return tensor


def _probe(net: PoseMachine, crop: int, cast: torch.dtype | None, people: int) -> tuple[list[int], float]:
    """Bytes that autograd keeps for every stage, and seconds of the forward pass, a person of ``people``."""
    device = next(net.parameters()).device
    data = torch.zeros(people, net.input_channels, crop, crop, device=device)
    data = data.contiguous(memory_format=torch.channels_last)
    kept = _Kept(net.parameters())
    marks: list[int] = []

    hooks = [
        net.layer(name).register_forward_hook(lambda *_: marks.append(kept.total))
        for name in net.output_layers
    ]
    recompute = net.recompute
    net.recompute = False
    try:
        with torch.autocast(device.type, cast, enabled=cast is not None):
            net(data)  # the first call allocates, chooses kernels
            marks = [0]
            with kept.counting():
                begin = _now(device)
                maps = net(data)
                seconds = _now(device) - begin
        del maps
    finally:
        net.recompute = recompute
        for hook in hooks:
            hook.remove()
    return [(b - a) // people for a, b in itertools.pairwise(marks)], seconds / people


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _state_bytes(net: PoseMachine, solver: SolverConfig, cores: int) -> int:
    count = sum(weight.numel() for weight in net.parameters())
    copies = 1 + cores + bool(solver.average)
    if solver.optimizer == "muon":
        matrices, others = split_for_muon(net)
        moments = sum(w.numel() for w in matrices) + 2 * sum(w.numel() for w in others)
    else:
        moments = count * (1 if solver.optimizer == "caffe_sgd" else 2)
    return 4 * (copies * count + moments)


def _available(device: torch.device) -> int | None:
    """Memory of the device, or of the machine, bytes."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return machine_memory()


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2g} GB" if count >= 1e8 else f"{count / 1e6:.2g} MB"
