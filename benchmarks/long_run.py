"""Does a long run grow? Memory, open files and threads of `cpm train` and `cpm predict`, seen from outside.

``python benchmarks/long_run.py --out benchmarks/results/DATE-long-run.md``: 10,000 updates of ``tiny`` and
20,000 predictions with its weights; both narrow and of small pictures, for what grows does so with the count.
Linux only: it reads /proc. Exit code 1 when something grew.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cpm_repro.environment import in_one_line
from cpm_repro.files import atomic_write
from cpm_repro.markdown import table

_ALLOWED_MB = 8.0
"""Megabytes of resident memory, beyond 2 %, that an allocator may move from one end of a run to the other."""
_MEASURED = ("memory, MB", "open files", "threads")
_EVERY = 1.0  # seconds between two looks
_NARROW = (
    "network.width=0.05", "augment.crop=64", "solver.optimizer=adamw", "solver.precision=float32",
    "validate_people=4", "validate_every=0.1", "workers=1",
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """What /proc says of a process that has done ``done`` updates or predictions."""

    done: int
    megabytes: float
    files: int
    threads: int


@dataclass(frozen=True)
class Watched:
    """A run from its start to its end."""

    command: str
    wanted: int
    seconds: float
    looks: list[Look]

    def windows(self) -> tuple[list[Look], list[Look]]:
        """Looks after warm-up (a fifth to two fifths of the work) and at the end (its last fifth)."""
        early = [look for look in self.looks if 0.2 <= look.done / self.wanted < 0.4]
        late = [look for look in self.looks if 0.8 <= look.done / self.wanted < 1.0]
        if min(len(early), len(late)) < 5:
            sys.exit(f"too short to judge: {len(early)} and {len(late)} looks; give more work")
        return early, late

    def grew(self) -> list[str]:
        """What is larger at the end than after warm-up, by medians; memory beyond what is allowed."""
        early, late = self.windows()
        before, after = _medians(early), _medians(late)
        limit = (before[0] * 1.02 + _ALLOWED_MB, before[1], before[2])
        names = ("memory", "open files", "threads")
        return [name for name, most, got in zip(names, limit, after, strict=True) if got > most]


def _medians(looks: list[Look]) -> tuple[float, float, float]:
    columns = zip(*((look.megabytes, look.files, look.threads) for look in looks), strict=True)
    megabytes, files, threads = (statistics.median(column) for column in columns)
    return megabytes, files, threads


def _look(process: int, done: int) -> Look:
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    files = len(os.listdir(f"/proc/{process}/fd"))
    return Look(done, int(fields["VmRSS"].split()[0]) / 1024, files, int(fields["Threads"]))


def watch(words: list[str], wanted: int, done: Callable[[], int], folder: Path) -> Watched:
    """Run ``cpm`` with ``words`` in ``folder`` and look at it until it ends."""
    looks, begin = [], time.monotonic()
    log = folder / "log.txt"
    with log.open("w", encoding="utf-8") as said:
        command = [sys.executable, "-m", "cpm_repro", *words]
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=subprocess.STDOUT)
        while process.poll() is None:
            try:
                looks.append(_look(process.pid, done()))
            except (OSError, KeyError):  # it ended between the two lines
                break
            time.sleep(_EVERY)
    if (code := process.wait()) != 0:  # negative: the number of a signal
        sys.exit(f"cpm {words[0]} ended with {code}:\n{log.read_text(encoding='utf-8')[-2000:]}")
    return Watched("cpm " + " ".join(words), wanted, time.monotonic() - begin, looks)


def train(folder: Path, updates: int) -> Watched:
    """``updates`` of tiny on synthetic people, in ``folder``/run."""
    words = ["train", "--data", "synthetic", "--iterations", str(updates), "--batch", "1", "--out", "run"]
    words += [f"--set={setting}" for setting in _NARROW]
    lines = _Lines(folder / "run" / "metrics.jsonl")
    return watch(words, updates, lambda: lines.count(b'"train"'), folder)


def predict(folder: Path, pictures: int) -> Watched:
    """``pictures`` files (links to 16 of noise), with the weights of :func:`train`."""
    (folder / "pictures").mkdir()
    for number in range(16):
        noise = np.random.default_rng(number).integers(0, 256, (96, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), noise)
    for number in range(pictures):
        os.link(folder / f"{number % 16}.png", folder / "pictures" / f"{number:06d}.png")
    words = ["predict", "pictures", "--weights", "run", "--no-pictures", "--no-grid", "--out", "out"]
    return watch(words, pictures, lambda: _entries(folder / "out" / "predictions"), folder)


class _Lines:
    """Counts lines with a word in a file that grows, reading each byte once."""

    def __init__(self, path: Path) -> None:
        self.path, self.read, self.found = path, 0, 0

    def count(self, word: bytes) -> int:
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self.read)
                new = file.read()
            self.found += new.count(word)
            self.read += len(new)
        return self.found


def _entries(folder: Path) -> int:
    return len(os.listdir(folder)) if folder.exists() else 0


def page(runs: list[Watched], command: str) -> str:
    """Markdown: the machine, the medians at both ends, the verdicts, and ten looks of each run."""
    lines = [
        "# Long runs: memory, open files, threads",
        "",
        f"{in_one_line()}. Command: `{command}`",
        "",
        f"Looked at every {_EVERY:g} s from outside. Medians after warm-up (20 to 40 % of the work) and at "
        f"the end (its last 20 %). Allowed: 2 % and {_ALLOWED_MB:g} MB more memory; not one file or thread.",
        "",
    ]
    rows = []
    for run in runs:
        a, b = (_medians(looks) for looks in run.windows())
        ends = [f"{a[0]:.1f} to {b[0]:.1f}", f"{a[1]:g} to {b[1]:g}", f"{a[2]:g} to {b[2]:g}"]
        name = f"{run.wanted} x {run.command.split()[1]}"
        rows.append([name, f"{run.seconds:.0f}", *ends, ", ".join(run.grew()) or "nothing"])
    lines.append(table(["run", "seconds", *_MEASURED, "grew"], rows, "lrrrrl"))
    for run in runs:
        looks = run.looks[:: max(1, len(run.looks) // 10)]
        cells = [[f"{k.done}", f"{k.megabytes:.1f}", f"{k.files}", f"{k.threads}"] for k in looks]
        lines += ["", f"`{run.command}`", "", table(["done", *_MEASURED], cells, "r")]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Both runs, the page, the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--out", type=Path, help="Markdown file for the result")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = [train(folder, options.updates), predict(folder, options.pictures)]
    text = page(runs, "python " + " ".join(sys.argv))
    if options.out is not None:
        with atomic_write(options.out, "w") as file:
            file.write(text)
    print(text)
    sys.exit(any(run.grew() for run in runs))


if __name__ == "__main__":
    main()
