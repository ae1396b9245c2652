"""What the benchmarks share: timing side by side, and the lines that say where and when."""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch

from cpm_repro.files import atomic_write

Work = Callable[[], object]


def measure(works: dict[str, Work], rounds: int = 15, budget_s: float = 20.0) -> dict[str, float]:
    """Median seconds of each piece of work, interleaved, so that a busy machine slows all of them alike.

    On CUDA every call is timed with events after one warm-up call.
    """
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    end = time.perf_counter() + budget_s
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(_once(work))
        if time.perf_counter() > end:
            break
    return {name: statistics.median(values) for name, values in times.items()}


def _once(work: Work) -> float:
    if torch.cuda.is_available():
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        work()
        stop.record()
        torch.cuda.synchronize()
        return start.elapsed_time(stop) / 1000
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def header(title: str) -> list[str]:
    """First lines of a report: what, when, on what, from which commit."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    ).stdout.strip()
    day = datetime.date.today().isoformat()
    threads = f"{torch.get_num_threads()} threads"
    return [
        f"# {title}",
        "",
        f"{day}, commit {commit or 'unknown'}, {device}, {threads}, torch {torch.__version__}",
        "",
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def arguments(description: str) -> argparse.Namespace:
    """--out FILE (also write the report there) and --quick (small sizes, few rounds)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all?")
    return parser.parse_args()


def report(lines: list[str], out: Path | None) -> None:
    """Print the report, and write it if a file is named."""
    text = "\n".join(lines) + "\n"
    print(text)
    if out is not None:
        with atomic_write(out, "w") as file:
            file.write(text)
