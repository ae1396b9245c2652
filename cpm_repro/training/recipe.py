"""The optimiser and its learning-rate schedule, built from a :class:`~cpm_repro.config.SolverConfig`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from cpm_repro.config import SolverConfig
from cpm_repro.device import has_bf16
from cpm_repro.model import PoseMachine
from cpm_repro.training.muon import Muon


class Optimizers:
    """Several optimisers that act as one: some recipes treat matrices and vectors differently."""

    def __init__(self, members: list[torch.optim.Optimizer]) -> None:
        self.members = members
        for member in members:
            for group in member.param_groups:
                group["base_lr"] = group["lr"]

    def step(self, factor: float) -> None:
        """One update with every group's learning rate at ``factor`` times its base."""
        for member in self.members:
            for group in member.param_groups:
                group["lr"] = group["base_lr"] * factor
            member.step()

    def forget(self) -> None:
        """Drop all momentum, as at the start of a run."""
        for member in self.members:
            member.state.clear()

    def state_dict(self) -> list[dict[str, Any]]:
        """The members' states, in order."""
        return [member.state_dict() for member in self.members]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Restore what :meth:`state_dict` gave."""
        for member, state in zip(self.members, states, strict=True):
            member.load_state_dict(state)


def build_optimizers(
    net: PoseMachine, solver: SolverConfig, run: Callable[..., Iterator[None]] = map
) -> Optimizers:
    """The optimiser ``solver.optimizer`` names, over all of ``net``'s parameters; ``run`` as in Muon."""
    if solver.optimizer == "caffe_sgd":
        from cpm_repro.caffe.sgd import CaffeSGD  # the Caffe room is heavier than a run that does not need it

        groups = [
            {"params": [weight], "lr_mult": net.lr_mult(name), "decay_mult": net.decay_mult(name)}
            for name, weight in net.named_parameters()
        ]
        return Optimizers(
            [CaffeSGD(groups, lr=solver.lr, momentum=solver.momentum, weight_decay=solver.weight_decay)]
        )
    if solver.optimizer == "muon":
        matrices, others = split_for_muon(net)
        return Optimizers(
            [
                Muon(
                    matrices,
                    lr=solver.muon_lr,
                    momentum=solver.momentum,
                    weight_decay=solver.weight_decay,
                    run=run,
                ),
                _adamw(others, solver.lr, weight_decay=0.0),
            ]
        )
    return Optimizers([_adamw(list(net.parameters()), solver.lr, solver.weight_decay)])


def _adamw(weights: list[torch.nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Fused: one pass over each weight, and on a GPU one start for all of them."""
    return torch.optim.AdamW(weights, lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True)


def split_for_muon(net: PoseMachine) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """Hidden convolution weights, and all others: biases, what reads the picture, each stage's last layer.

    Inputs and outputs of a network are no hidden matrices; Muon's authors leave them to AdamW, and so do we.
    """
    readers = (layer.name for layer in net.description.image_convolutions)
    edge = {f"{name}.weight" for name in (*readers, *net.output_layers)}
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, weight in net.named_parameters():
        (others if weight.ndim < 2 or name in edge else matrices).append(weight)
    return matrices, others


def lr_factor(solver: SolverConfig, iteration: int, progress: float) -> float:
    """What the base learning rate is multiplied by.

    Args:
        solver: the schedule and its numbers.
        iteration: 0-based number of the update about to be made.
        progress: share of the budget already spent, 0 to 1.
    """
    warm = min(1.0, (iteration + 1) / solver.warmup) if solver.warmup else 1.0
    if solver.schedule == "step":
        return warm * solver.gamma ** (iteration // solver.stepsize)
    left = 1.0 - min(1.0, progress)
    if solver.schedule == "linear":
        return warm * min(1.0, left / solver.decay_share)
    return warm * 0.5 * (1 - math.cos(math.pi * left))


def learning_rates(solver: SolverConfig, factor: float) -> dict[str, float]:
    """The rates of all optimisers at ``factor`` times their base, by the names of their settings."""
    names = ("muon_lr", "lr") if solver.optimizer == "muon" else ("lr",)
    return {name: getattr(solver, name) * factor for name in names}


def lower(rates: Mapping[str, float]) -> str:
    """The advice to lower ``rates``, as :func:`learning_rates` gives them; where several, by name."""
    if len(rates) == 1:
        return f"lower the learning rate (now {next(iter(rates.values())):.2e})"
    return "lower the learning rates " + " and ".join(
        f"solver.{name} (now {rate:.2e})" for name, rate in rates.items()
    )


class LossScale:
    """What the loss is multiplied by, so that float16 gradients do not vanish; 1 where it is not needed.

    Halved after every update whose gradient overflows (that update is skipped), doubled after
    ``patience`` updates without one. Powers of two: scaling is exact.
    """

    def __init__(self, *, active: bool, start: float = 2.0**10, patience: int = 2000) -> None:
        self.active, self.patience = active, patience
        self.value, self.good = (start if active else 1.0), 0

    def can_fall(self) -> bool:
        """Whether an overflow may come from the scale rather than from the run."""
        return self.active and self.value > 1

    def update(self, *, finite: bool) -> None:
        """Take note of an update's gradient."""
        if not self.active:
            return
        self.good = self.good + 1 if finite else 0
        if not finite:
            self.value /= 2
        elif self.good == self.patience:
            self.value, self.good = 2 * self.value, 0

    def state_dict(self) -> dict[str, float]:
        """Value and how many updates it has held."""
        return {"value": self.value, "good": self.good}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.value, self.good = float(state["value"]), int(state["good"])


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """What convolutions compute in under the setting ``precision``; None: float32, without autocast."""
    if precision == "fp16":
        return torch.float16
    return torch.bfloat16 if use_bf16(precision, device) else None


def use_bf16(precision: str, device: torch.device) -> bool:
    """Whether the forward pass runs under bfloat16 autocast; ``"auto"``: where it is native."""
    return precision == "bf16" or (precision == "auto" and has_bf16(device))
