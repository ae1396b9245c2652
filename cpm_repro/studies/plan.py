"""What a study is: variants to train, and an analysis of what came out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cpm_repro.checklist.verdicts import UNDECIDED, Verdict
from cpm_repro.config import NetworkConfig, TrainConfig, to_dict
from cpm_repro.model import NetDescription, describe
from cpm_repro.studies.statistics import Decision, spread

LEAST_PCK = 15.0
"""Percent at PCK@0.2 that a study's reference must reach before anything is concluded from it.

A network that always answers with an average pose gets a few percent; differences there say nothing."""


def described(network: NetworkConfig) -> NetDescription:
    """The layers of the network that a configuration names."""
    return describe(
        network.arch,
        network.stages,
        network.parts,
        network.width,
        features=network.features,
        refine=network.refine,
    )


@dataclass(frozen=True)
class Variant:
    """One way of training that a study compares; trained once per seed."""

    label: str
    config: TrainConfig


@dataclass(frozen=True)
class Run:
    """One training run. Studies that ask for the same configuration share it."""

    config: TrainConfig

    @property
    def name(self) -> str:
        """Folder below ``runs/``: readable, and another for every other configuration."""
        values = to_dict(replace(self.config, name="", workers=0, seed=0))
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.config.network.stages}stages-{self.config.scheme}-{digest}-seed{self.config.seed}"


@dataclass(frozen=True)
class RunRecord:
    """What a finished run leaves; ``curves`` are PCK in percent over ``thresholds``, per stage."""

    config: TrainConfig
    folder: Path
    thresholds: tuple[float, ...]
    curves: tuple[tuple[float, ...], ...]
    pck: tuple[float, ...]  # PCK@0.2 per stage
    rows: tuple[Mapping[str, float | None], ...]
    iterations: int
    seconds: float
    commit: str | None = None  # of the code that trained it

    @property
    def last(self) -> float:
        """PCK@0.2 of the last stage."""
        return self.pck[-1]

    def at(self, threshold: float) -> list[float]:
        """PCK of every stage at one of the thresholds."""
        index = min(range(len(self.thresholds)), key=lambda i: abs(self.thresholds[i] - threshold))
        return [curve[index] for curve in self.curves]


@dataclass(frozen=True)
class Material:
    """All runs of a study, ready to be analysed. ``runs[label]`` has one record per seed, in their order."""

    base: TrainConfig
    runs: Mapping[str, Sequence[RunRecord]]
    out: Path
    device: str | None = None  # where to measure; None takes a GPU when there is one

    def last(self, label: str) -> list[float]:
        """PCK@0.2 of the variant's last stage, per seed."""
        return [record.last for record in self.runs[label]]

    def difference(self, label: str, other: str) -> list[float]:
        """Last stage's PCK@0.2 of ``label`` minus that of ``other``, seed by seed, points."""
        return [a - b for a, b in zip(self.last(label), self.last(other), strict=True)]


@dataclass(frozen=True)
class Finding:
    """What an analysis found: verdicts, Markdown tables under their captions, and pictures (PNG paths)."""

    verdicts: tuple[Verdict, ...]
    tables: Mapping[str, str]
    figures: Mapping[str, Path]
    remark: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A research question, what is trained for it, and how the answer is read off.

    ``rule`` says in words by what the claims are decided, before anything is run.
    """

    name: str
    question: str
    rule: str
    variants: Callable[[TrainConfig], list[Variant]]
    analyse: Callable[[Material], Finding]


def verdict_of(claim: str, rule: str, what: str, decision: Decision) -> Verdict:
    """The verdict that a decision about points of PCK@0.2 is; ``what`` was subtracted from what, in words."""
    tail = f"; {decision.budget}" if decision.budget else ""
    reason = f"{what}: {decision} points of PCK@0.2{tail}"
    return Verdict(claim, decision.value, rule, reason, decision.to_dict())


def too_weak(claims: Sequence[str], rule: str, reference: Sequence[float]) -> tuple[Verdict, ...] | None:
    """Undecided verdicts of ``claims`` when the reference's PCK@0.2 per seed is below :data:`LEAST_PCK`."""
    mean, _ = spread(reference)
    if mean >= LEAST_PCK:
        return None
    reason = (
        f"the reference reached {mean:.1f} % PCK@0.2, below the {LEAST_PCK:g} % from which differences mean "
        f"something; a budget several times as long would decide"
    )
    return tuple(Verdict(claim, UNDECIDED, rule, reason, {"reference": mean}) for claim in claims)
