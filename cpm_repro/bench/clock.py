"""Timing several ways of doing one thing in turn, so that a busy machine slows all of them alike."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Mapping

import torch

from cpm_repro.bench.case import Work
from cpm_repro.errors import first_line

_SHORTEST = 2e-3
"""Seconds a sample lasts at least: shorter work is repeated, so that the clock's own cost does not show."""


def time_in_turn(
    works: Mapping[str, Work],
    rounds: int = 15,
    budget: float = 20.0,
    device: str = "cpu",
    graphs: Collection[str] = (),
    least: float = 0.0,
) -> dict[str, list[float]]:
    """Seconds per call of every way, one sample a round; at least three rounds.

    Short work is measured for ``least`` seconds all the same: twenty rounds of a few milliseconds would only
    tell what the machine's neighbours did in that moment.

    Args:
        works: way -> work. Each is called once or, if that took less than a second, twice, to warm up.
        rounds: samples per way; fewer when the budget is used up, more until ``least`` seconds have passed.
        budget: seconds, after which no further round begins.
        device: "cuda" times with events on the current stream.
        graphs: ways that a GPU replays as CUDA graphs: its work is timed and not Python's. One that cannot
            be captured is called from Python, with a line on stderr.
        least: seconds to go on for, whatever the number of rounds.
    """
    samplers = {
        name: _sampler(name, work, device, graph=device == "cuda" and name in graphs)
        for name, work in works.items()
    }
    samples: dict[str, list[float]] = {name: [] for name in works}
    begin, taken, number = time.perf_counter(), 0.0, 0
    while (number < rounds or taken < least) and (number < 3 or taken < budget):
        for name, sampler in samplers.items():
            samples[name].append(sampler(number))
        number, taken = number + 1, time.perf_counter() - begin
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


def _sampler(name: str, work: Work, device: str, *, graph: bool) -> Callable[[int], float]:
    """Takes one sample in the round of that number; made after warming up."""
    once = _sample(work, 0, 1, device)
    if once < 1.0:
        once = _sample(work, 1, 1, device)
    if graph:
        try:
            return _graph_sampler(work)
        except RuntimeError as error:
            torch.cuda.synchronize()
            print(f"{name}: called from Python, not captured: {first_line(error)}", file=sys.stderr)
    repeats = _repeats(once)
    return lambda number: _sample(work, number, repeats, device)


def _repeats(once: float) -> int:
    return max(1, int(_SHORTEST / max(once, 1e-9)))


_CALLS_IN_A_GRAPH = 2000


def _graph_sampler(work: Work) -> Callable[[int], float]:
    """Replays a graph of as many calls as last _SHORTEST; their inputs are rotated in it."""
    few = 4
    once = _sample_graph(_capture(work, few)) / few
    calls = min(_repeats(once), _CALLS_IN_A_GRAPH)
    graph = _capture(work, calls)
    _sample_graph(graph)
    return lambda _: _sample_graph(graph) / calls


def _capture(work: Work, calls: int) -> torch.cuda.CUDAGraph:
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for number in range(calls):
            work(number)
    return graph


def _sample_graph(graph: torch.cuda.CUDAGraph) -> float:
    return _between_events(graph.replay)


def _between_events(work: Callable[[], None]) -> float:
    """Seconds on the current stream."""
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    work()
    stop.record()
    torch.cuda.synchronize()
    return start.elapsed_time(stop) / 1000


def _sample(work: Work, number: int, repeats: int, device: str) -> float:
    def run() -> None:
        for index in range(repeats):
            work(number * repeats + index)

    if device == "cuda":
        return _between_events(run) / repeats
    begin = time.perf_counter()
    run()
    return (time.perf_counter() - begin) / repeats
