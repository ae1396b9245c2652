"""What was measured, as plain values that go to JSON and come back."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cpm_repro.bench.limits import Limits
from cpm_repro.errors import UserError
from cpm_repro.files import read_json, write_json

FORMAT = "cpm bench 1"


@dataclass(frozen=True)
class Spread:
    """Median and the middle half of repeated values."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: list[float]) -> Spread:
        """Quartiles of at least one value."""
        if len(values) < 2:
            return Spread(values[0], values[0], values[0])
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return Spread(middle, low, high)


@dataclass(frozen=True)
class Measured:
    """One case's results; ``samples``: way -> seconds per call, one a round, the first way is ours."""

    name: str
    error: float
    tolerance: float
    samples: dict[str, list[float]]
    bytes: float = 0.0
    operations: float = 0.0
    axis: tuple[str, float] | None = None
    limit: str | None = None
    limit_seconds: float | None = None  # computed from bytes and operations where no way is the limit
    allowed: float | None = None  # seconds that are asked for: the limit then
    goals: list[tuple[str, float]] = field(default_factory=list)
    unit: str = "s"

    @property
    def ours(self) -> str:
        """Name of our own way."""
        return next(iter(self.samples))

    def seconds(self, way: str) -> Spread:
        """Time per call of one way."""
        return Spread.of(self.samples[way])

    def ratio(self, way: str) -> Spread:
        """How many times as long as ours ``way`` takes, round by round."""
        return Spread.of([b / a for a, b in zip(self.samples[self.ours], self.samples[way], strict=True)])

    def share(self) -> Spread | None:
        """Share of the limit that ours reaches, 0 to 1; None where no limit is known."""
        if self.limit is not None:
            return self.ratio(self.limit)
        least = self.allowed or self.limit_seconds
        if not least:
            return None
        return Spread.of([least / seconds for seconds in self.samples[self.ours]])

    def verdicts(self) -> list[tuple[str, float, Spread, bool]]:
        """Every goal: against what, wanted, got, whether the median reaches it."""
        rows = []
        for against, wanted in self.goals:
            got = self.share() if against == "limit" else self.ratio(against)
            if got is not None:
                rows.append((against, wanted, got, got.median >= wanted))
        return rows


@dataclass(frozen=True)
class Answer:
    """One script's results, or why there are none."""

    script: str
    title: str
    about: str
    cases: list[Measured]
    limits: Limits | None = None
    notes: list[str] = field(default_factory=list)
    failure: str = ""


@dataclass(frozen=True)
class BenchReport:
    """A whole run of the benchmarks on one machine."""

    date: str
    commit: str
    device: str
    threads: int
    versions: dict[str, str]
    quick: bool
    answers: list[Answer]

    @property
    def machine(self) -> str:
        """What names this machine in tables: the device, and the threads of a processor."""
        return self.device if self.versions.get("gpu") else f"{self.device}, {self.threads} threads"


def save_answer(answer: Answer, path: Path) -> None:
    """Write one script's results as JSON, atomically."""
    write_json(path, asdict(answer))


def load_answer(path: Path) -> Answer:
    """The inverse of :func:`save_answer`."""
    return _answer(read_json(path))


def save_report(report: BenchReport, path: Path) -> None:
    """Write a report as JSON, atomically."""
    write_json(path, {"format": FORMAT, **asdict(report)})


def load_report(path: Path) -> BenchReport:
    """The inverse of :func:`save_report`.

    Raises:
        UserError: no such file, or something else than a report.
    """
    values = read_json(path)
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise UserError(f"{path}: wanted a {FORMAT!r} report, got something else")
    try:
        return BenchReport(**{**values, "answers": [_answer(item) for item in values["answers"]]})
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not a whole benchmark report ({error})") from error


def _answer(values: dict[str, Any]) -> Answer:
    limits = Limits(**values["limits"]) if values["limits"] else None
    return Answer(**{**values, "limits": limits, "cases": [_measured(case) for case in values["cases"]]})


def _measured(values: dict[str, Any]) -> Measured:
    axis = (str(values["axis"][0]), float(values["axis"][1])) if values["axis"] else None
    goals = [(str(against), float(times)) for against, times in values["goals"]]
    return Measured(**{**values, "axis": axis, "goals": goals})
