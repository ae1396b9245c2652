"""Caffe's learning-rate policies as functions of the iteration (spec `training.md`, Solver)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cpm_repro.errors import UserError


@dataclass(frozen=True)
class LrPolicy:
    """One policy with its numbers; calling it with an iteration (0-based) gives the learning rate.

    Formulas, with b the base rate, i the iteration, g gamma, p power, s stepsize, m max_iter:
    fixed b; step b g^floor(i/s); exp b g^i; inv b (1 + g i)^-p; multistep b g^k; poly b (1 - i/m)^p;
    sigmoid b / (1 + exp(-g (i - s))).

    multistep's k is the number of ``stepvalues`` reached, but advances by at most one per iteration, as in
    Caffe: of equal or neighbouring values only one counts per iteration.
    """

    policy: str
    base_lr: float
    gamma: float = 0.0
    power: float = 0.0
    stepsize: int = 0
    stepvalues: tuple[int, ...] = ()
    max_iter: int = 0

    def __post_init__(self) -> None:
        if self.policy not in _RATES:
            raise UserError(f"unknown lr_policy {self.policy!r}: wanted one of {', '.join(_RATES)}")
        if self.policy == "step" and self.stepsize < 1:
            raise UserError(f"lr_policy step: wanted a stepsize of at least 1, got {self.stepsize}")
        if self.policy == "poly" and self.max_iter < 1:
            raise UserError(f"lr_policy poly: wanted a max_iter of at least 1, got {self.max_iter}")

    def __call__(self, iteration: int) -> float:
        """Learning rate of iteration ``iteration``; a UserError where the formula has no real value."""
        try:
            return self.base_lr * float(_RATES[self.policy](self, iteration))
        except (ArithmeticError, TypeError) as error:  # float() of a complex number is a TypeError
            raise UserError(
                f"lr_policy {self.policy}: gamma {self.gamma:g} and power {self.power:g} give no rate at "
                f"iteration {iteration}"
            ) from error

    def current_step(self, iteration: int) -> int:
        """What a solverstate after ``iteration`` updates stores as current_step: steps taken so far."""
        last = max(0, iteration - 1)  # the rate of the last update was computed at this iteration
        if self.policy == "step":
            return last // self.stepsize
        return _steps_taken(self.stepvalues, last) if self.policy == "multistep" else 0


def policy_of(solver: Any) -> LrPolicy:
    """The policy of a SolverParameter message.

    Raises:
        UserError: an unknown policy, or one whose numbers are missing.
    """
    return LrPolicy(
        policy=solver.lr_policy,
        base_lr=as_typed(solver.base_lr),
        gamma=as_typed(solver.gamma),
        power=as_typed(solver.power),
        stepsize=solver.stepsize,
        stepvalues=tuple(solver.stepvalue),
        max_iter=solver.max_iter,
    )


def as_typed(value: float) -> float:
    """The shortest decimal that a prototxt's float32 field may have been typed as: 8e-5, not 7.9999998e-5."""
    return float(str(np.float32(value)))


def _steps_taken(values: Sequence[int], iteration: int) -> int:
    """How far multistep has advanced when it is asked once per iteration from 0 to ``iteration``."""
    taken, when = 0, -1
    for value in values:
        when = max(value, when + 1)
        if when > iteration:
            break
        taken += 1
    return taken


def _poly(own: LrPolicy, iteration: int) -> float:
    return float((1 - min(iteration, own.max_iter) / own.max_iter) ** own.power)


def _sigmoid(own: LrPolicy, iteration: int) -> float:
    exponent = -own.gamma * (iteration - own.stepsize)
    return 1 / (1 + math.exp(exponent)) if exponent < 700 else 0.0  # exp overflows past 709


_RATES: dict[str, Callable[[LrPolicy, int], float]] = {
    "fixed": lambda own, i: 1.0,  # noqa: ARG005
    "step": lambda own, i: own.gamma ** (i // own.stepsize),
    "exp": lambda own, i: own.gamma**i,
    "inv": lambda own, i: (1 + own.gamma * i) ** -own.power,
    "multistep": lambda own, i: own.gamma ** _steps_taken(own.stepvalues, i),
    "poly": _poly,
    "sigmoid": _sigmoid,
}
