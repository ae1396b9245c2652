"""The training schemes that the paper compares (section 4.2; spec `training.md`), as phases of one run.

A phase says which stages run, whose weights move, and whose losses count. Phases share the budget; each is a
training of its own, as it would be in Caffe: its learning-rate schedule starts anew, and so does momentum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from cpm_repro.config import SCHEMES, unknown
from cpm_repro.errors import UserError
from cpm_repro.model import PoseMachine


@dataclass(frozen=True)
class Phase:
    """One part of a run; stages are numbered from 1, ``begin`` and ``end`` are shares of the budget."""

    name: str
    begin: float
    end: float
    stages: int  # the forward pass runs stages 1..stages
    active: tuple[int, ...]  # whose weights move; all others are frozen
    losses: tuple[int, ...]  # whose losses make the objective, each with weight 1

    def progress(self, progress: float) -> float:
        """Share of this phase's own budget spent, 0 to 1, at ``progress`` of the run's."""
        return min(1.0, max(0.0, (progress - self.begin) / (self.end - self.begin)))

    def weights(self) -> list[float]:
        """Weight of the loss of every stage that runs."""
        return [float(stage in self.losses) for stage in range(1, self.stages + 1)]

    def __str__(self) -> str:
        share = f"{self.begin:.0%} to {self.end:.0%} of the budget"
        return f"{self.name}: trains {_listed(self.active)}, loss at {_listed(self.losses)}, {share}"


def _listed(stages: Sequence[int]) -> str:
    return f"stage {stages[0]}" if len(stages) == 1 else f"stages {stages[0]}-{stages[-1]}"


def phases_of(scheme: str, stages: int, stage_wise_share: float = 0.5) -> tuple[Phase, ...]:
    """The phases of ``scheme`` for a network of ``stages`` stages.

    Stage-wise phases have equal shares of the budget: of all of it under ``stage-wise``, of
    ``stage_wise_share`` under ``stage-wise-then-end-to-end``, whose last phase has the rest. The paper does
    not say how it divided its own.

    Raises:
        UserError: an unknown scheme.
    """
    if scheme not in SCHEMES:
        raise UserError(unknown("scheme", scheme, SCHEMES))
    every = tuple(range(1, stages + 1))
    if scheme == "end-to-end":
        return (Phase("end to end", 0.0, 1.0, stages, every, every),)
    if scheme == "last-stage-loss":
        return (Phase("last stage's loss", 0.0, 1.0, stages, every, every[-1:]),)
    if scheme == "stage-wise":
        return _one_by_one(stages, 1.0)
    together = Phase("end to end", stage_wise_share, 1.0, stages, every, every)
    return (*_one_by_one(stages, stage_wise_share), together)


def _one_by_one(stages: int, share: float) -> tuple[Phase, ...]:
    edges = [share * (stage / stages) for stage in range(stages + 1)]
    return tuple(
        Phase(f"stage {t} alone", edges[t - 1], edges[t], stages=t, active=(t,), losses=(t,))
        for t in range(1, stages + 1)
    )


def phase_at(phases: Sequence[Phase], progress: float) -> int:
    """Index of the phase that an update at ``progress`` of the budget belongs to."""
    reached = progress + 1e-9  # shares are rounded; an update belongs to the phase it would begin
    return max(index for index, phase in enumerate(phases) if phase.begin <= reached)


def check_budget(phases: Sequence[Phase], iterations: int | None) -> None:
    """Refuse a budget of updates that leaves a phase without any (UserError)."""
    if iterations is None:
        return
    # If any update belongs to a phase, then one of those about the phase's beginning: budgets may be long.
    about = {math.floor(phase.begin * iterations) + step for phase in phases for step in (-1, 0, 1)}
    updates = (update for update in about if 0 <= update < iterations)
    if len({phase_at(phases, update / iterations) for update in updates}) < len(phases):
        raise UserError(f"{iterations} iterations are too few for {len(phases)} phases of training")


def stage_of(net: PoseMachine) -> dict[str, int]:
    """The stage that every parameter belongs to, 1-based, by its state_dict key.

    A layer belongs to the first stage whose belief maps come at or after it, so what several stages share
    (the VGG trunk, ``pool3_stage2``) belongs to the first of them.
    """
    stages, stage = {}, 1
    for layer in net.description.convolutions:
        stages[f"{layer.name}.weight"] = stages[f"{layer.name}.bias"] = stage
        stage += layer.name == net.output_layers[stage - 1]
    return stages


def enter(net: PoseMachine, phase: Phase) -> None:
    """Freeze what ``phase`` does not train, and free the rest.

    A frozen parameter has ``requires_grad`` False and ``grad`` None. The image does not require a gradient
    either, so autograd records nothing for the stages before the first active one: their activations are
    dropped at once, as under ``no_grad``. Frozen stages run as they will run at test time, without dropout.
    """
    stages = stage_of(net)
    frozen = set()
    for name, weight in net.named_parameters():
        active = stages[name] in phase.active
        weight.requires_grad_(active)
        weight.grad = None
        if not active:
            frozen.add(stages[name])
    for name, module in net.named_modules():
        if isinstance(module, nn.Dropout):  # all of them are named after the stage they are in
            module.train(int(name.rpartition("_stage")[2]) not in frozen)


def leave(net: PoseMachine) -> None:
    """Make every parameter trainable again."""
    for weight in net.parameters():
        weight.requires_grad_(True)
