"""Timing several ways of doing one thing in turn, so that a busy machine slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch

from cpm_repro.bench.case import Work

_SHORTEST = 2e-3
"""Seconds a sample lasts at least: shorter work is repeated, so that the clock's own cost does not show."""


def time_in_turn(
    works: Mapping[str, Work], rounds: int = 15, budget: float = 20.0, device: str = "cpu"
) -> dict[str, list[float]]:
    """Seconds per call of every way, one sample a round; at least three rounds.

    Args:
        works: way -> work. Each is called once or, if that took less than a second, twice, to warm up.
        rounds: samples per way, fewer when the time is up.
        budget: seconds, after which no further round begins.
        device: "cuda" times with events on the current stream.
    """
    repeats = {name: _repeats(work, device) for name, work in works.items()}
    samples: dict[str, list[float]] = {name: [] for name in works}
    end = time.perf_counter() + budget
    for number in range(rounds):
        for name, work in works.items():
            samples[name].append(_sample(work, number, repeats[name], device))
        if number >= 2 and time.perf_counter() > end:
            break
    return samples


def sizes_in_turn(works: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """Bytes that every call says it needed, one a round."""
    samples: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        for name, work in works.items():
            size = work(number)
            if not isinstance(size, (int, float)):
                raise TypeError(f"{name}: wanted a number of bytes, got {type(size).__name__}")
            samples[name].append(float(size))
    return samples


def _repeats(work: Work, device: str) -> int:
    """How often a sample calls the work, after warming up."""
    once = _sample(work, 0, 1, device)
    if once < 1.0:
        once = _sample(work, 1, 1, device)
    return max(1, int(_SHORTEST / max(once, 1e-9)))


def _sample(work: Work, number: int, repeats: int, device: str) -> float:
    if device == "cuda":
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        for index in range(repeats):
            work(number * repeats + index)
        stop.record()
        torch.cuda.synchronize()
        return start.elapsed_time(stop) / 1000 / repeats
    begin = time.perf_counter()
    for index in range(repeats):
        work(number * repeats + index)
    return (time.perf_counter() - begin) / repeats
