"""What a benchmark asks: the same work done in several ways, at one size, with a check of the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

Work = Callable[[int], object]
"""One call of one way. The argument is the number of the round, so that inputs can be rotated."""


class BenchmarkWrong(AssertionError):
    """A way gave another result than the reference: no time of it is worth printing."""


def largest(differences: Iterable[float]) -> float:
    """The largest of several differences, at least 0; NaN if one of them is not a number.

    Python's ``max`` forgets every NaN but the first value's: results that are none would pass for right.
    """
    found = [0.0, *differences]
    return math.nan if any(map(math.isnan, found)) else max(found)


@dataclass(frozen=True)
class Goal:
    """A ratio to be reached: ``against`` takes at least ``times`` as long as ours.

    Against ``"limit"``, ``times`` is the share of the limit's rate that ours must reach, 0 to 1.
    """

    against: str
    times: float


@dataclass(frozen=True)
class Case:
    """One size of one question.

    Attributes:
        name: short, for the table's rows.
        works: way -> work; the first is ours. All are timed in turn, round after round.
        check: compares results with the reference on the tensors that are timed; returns the largest
            difference. Called before any clock is read.
        tolerance: largest difference allowed.
        bytes: that must be read and written at least, per call; 0: unknown.
        operations: floating-point operations (a multiply-add counts two) needed at least, per call.
        axis: what grows, for scaling plots: ("N", 16).
        limit: the way that is the limit itself (filling the same memory, say); None computes the limit from
            ``bytes`` and ``operations`` with the rates measured in the same run.
        allowed: seconds that a call may take: they are the limit then.
        precision: "float32" or "bfloat16": which matrix rate limits the operations.
        goals: ratios asked for.
        unit: "s": calls are timed; "bytes": what each call returns is the memory it measured.
        budget: seconds after which no further round begins; three are made in any case.
        graphs: ways that on a GPU are timed as CUDA graphs: the device's work without Python's.
    """

    name: str
    works: Mapping[str, Work]
    check: Callable[[], float]
    tolerance: float
    bytes: float = 0.0
    operations: float = 0.0
    axis: tuple[str, float] | None = None
    limit: str | None = None
    allowed: float | None = None
    precision: str = "float32"
    goals: tuple[Goal, ...] = ()
    unit: str = "s"
    budget: float = 20.0
    graphs: tuple[str, ...] = ()

    def checked(self) -> float:
        """The largest difference from the reference.

        Raises:
            BenchmarkWrong: it is beyond the tolerance, or not a number.
        """
        error = float(self.check())
        if not error <= self.tolerance:
            raise BenchmarkWrong(
                f"{self.name}: the result differs from the reference by {error:.3g}, "
                f"allowed {self.tolerance:.3g}"
            )
        return error


@dataclass(frozen=True)
class Question:
    """A benchmark: title, what is asked, and its cases, made one after the other to spare memory."""

    title: str
    about: str
    cases: Iterable[Case]
    notes: tuple[str, ...] = ()
