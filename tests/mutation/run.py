"""Plants faults of `mutants.py` in the arithmetic that matters, and counts those that turn a test red.

    python tests/mutation/run.py [evaluation|sgd|math ...] [--sample 40 --seed 0] [--jobs 2] [--out FILE.md]

Each fault is planted in a copy of the tree, never in the tree itself. A fault in csrc/math is shown to the
tests that compile its headers themselves, in seconds; those of the operations could only notice more.

A fault that does not compile is no fault: it is left out of the share. One whose tests run out of time is
counted by itself, and as not noticed: it may be an endless loop, or just a busy machine.
"""

from __future__ import annotations

import argparse
import ast
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path

from mutants import Mutant, mutants
from tqdm import tqdm

from cpm_repro.environment import commit

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("cpm_repro", "csrc", "tests", "protos_reference", "setup.py", "pyproject.toml", "README.md")
LONGEST = 240
"""Seconds after which a run of tests is given up."""


class Outcome(Enum):
    """What became of one fault."""

    NOTICED = "noticed"
    TIMED_OUT = "timed out"
    NOT_COMPILED = "does not compile"
    NOT_NOTICED = "not noticed"


@dataclass(frozen=True)
class Target:
    """Files with arithmetic, and the tests that must notice."""

    files: tuple[str, ...]
    tests: tuple[str, ...]


TARGETS = {
    "evaluation": Target(
        tuple(
            f"cpm_repro/evaluation/{name}.py"
            for name in ("evaluate", "table", "bootstrap", "curves", "protocols", "failures", "suspicion")
        ),
        ("tests/evaluation",),
    ),
    "sgd": Target(
        ("cpm_repro/caffe/sgd.py", "cpm_repro/caffe/lr_policy.py"),
        (
            "tests/caffe/test_caffe_lr_policy.py",
            "tests/caffe/test_caffe_resume.py",
            "tests/caffe/test_caffe_sgd.py",
        ),
    ),
    "math": Target(
        tuple(f"csrc/math/{name}.h" for name in ("belief", "common", "fuse", "loss", "resize", "half")),
        tuple(f"tests/csrc/test_csrc_{name}.py" for name in ("math_belief", "math_fuse", "half")),
    ),
}


DESELECTED = (
    # Minutes for each fault: runs of Caffe through all their numbers.
    "tests/caffe/test_caffe_sgd.py::test_golden_runs_of_caffe",
    "tests/caffe/test_caffe_sgd.py::test_torchs_sgd_fails_the_golden_run",
)


def main() -> None:
    """Run the targets asked for; print and write the table. Exit code 1 when fewer than 90 % are noticed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)"
    )
    parser.add_argument("--sample", type=int, help="so many faults of each target")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--jobs", type=int, default=1, help="so many faults at a time")
    parser.add_argument("--out", type=Path, help="Markdown file for the result")
    options = parser.parse_args()
    lines = [
        "# Planted faults",
        "",
        f"{date.today()}, commit {commit()}. Faults planted: all, or a random sample of each target.",
        "",
        "| where | faults | do not compile | noticed | timed out | not noticed | of those that compile |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    missed: list[str] = []
    share = 1.0
    for name in options.targets or TARGETS:
        outcomes = run(TARGETS[name], options.sample, options.seed, options.jobs)
        count = Counter(outcomes.values())
        part = count[Outcome.NOTICED] / max(1, len(outcomes) - count[Outcome.NOT_COMPILED])
        share = min(share, part)
        numbers = [len(outcomes), count[Outcome.NOT_COMPILED], count[Outcome.NOTICED]]
        numbers += [count[Outcome.TIMED_OUT], count[Outcome.NOT_NOTICED]]
        lines.append(f"| {name} | {' | '.join(map(str, numbers))} | {100 * part:.1f} % |")
        missed += [
            f"- `{mutant}`{' (timed out)' if outcome is Outcome.TIMED_OUT else ''}"
            for mutant, outcome in outcomes.items()
            if outcome in (Outcome.TIMED_OUT, Outcome.NOT_NOTICED)
        ]
    lines += ["", f"Command: `python tests/mutation/run.py {' '.join(sys.argv[1:])}`".rstrip(), ""]
    lines += ["Not noticed:", "", *missed] if missed else ["All were noticed."]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    sys.exit(share < 0.9)


def run(target: Target, sample: int | None, seed: int = 0, jobs: int = 1) -> dict[Mutant, Outcome]:
    """What became of each fault planted, in the order of files and lines."""
    planted = [mutant for file in target.files for mutant in mutants(ROOT, Path(file))]
    if sample is not None and sample < len(planted):
        planted = sorted(random.Random(seed).sample(planted, sample), key=lambda m: (str(m.path), m.line))
    with tempfile.TemporaryDirectory() as folder:
        trees: queue.Queue[Path] = queue.Queue()
        for index in range(jobs):
            tree = Path(folder, str(index))
            copy_tree(tree)
            trees.put(tree)
        nothing = Mutant(Path(target.files[0]), 0, "", "", (tree / target.files[0]).read_text("utf-8"))
        if planted_in(tree, nothing, target) is not Outcome.NOT_NOTICED:
            sys.exit(f"a test fails without any fault: {' '.join(target.tests)}")

        def one(mutant: Mutant) -> Outcome:
            tree = trees.get()
            try:
                outcome = planted_in(tree, mutant, target)
            finally:
                trees.put(tree)
            if outcome is not Outcome.NOTICED:  # a run that is stopped has said something
                tqdm.write(f"{outcome.value}: {mutant}", file=sys.stderr)
            return outcome

        with ThreadPoolExecutor(jobs) as pool:
            outcomes = pool.map(one, planted)
            shown = tqdm(outcomes, total=len(planted), unit="fault", disable=not sys.stderr.isatty())
            return dict(zip(planted, shown, strict=True))


def copy_tree(tree: Path) -> None:
    """The files that tests need, without what Python has compiled."""
    tree.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree / name)


def planted_in(tree: Path, mutant: Mutant, target: Target) -> Outcome:
    """What the tests say of the fault in the tree; the tree is as before afterwards."""
    place = tree / mutant.path
    original = place.read_text(encoding="utf-8")
    place.write_text(mutant.text, encoding="utf-8")
    try:
        if not compiles(tree, mutant):
            return Outcome.NOT_COMPILED
        return tested(tree, target.tests)
    finally:
        place.write_text(original, encoding="utf-8")


def compiles(tree: Path, mutant: Mutant) -> bool:
    """Whether the language takes the fault; a header is compiled alone, for nothing in it is a template."""
    if mutant.path.suffix == ".py":
        try:
            ast.parse(mutant.text)
        except SyntaxError:
            return False
        return True
    command = [os.environ.get("CXX", "c++"), "-std=c++17", "-fsyntax-only", "-x", "c++", str(mutant.path)]
    return subprocess.run(command, cwd=tree, capture_output=True).returncode == 0


def tested(tree: Path, tests: Sequence[str]) -> Outcome:
    """What the tests in the tree say within the time allowed."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    command += [f"--deselect={name}" for name in DESELECTED]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.setdefault("CPM_GOLDEN", str(ROOT.parent / "shared" / "golden"))
    environment.setdefault("CPM_DATA", str(ROOT.parent / "shared" / "data"))
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        return Outcome.TIMED_OUT
    if done.returncode in (4, 5):  # pytest was called wrongly, or found no tests: nothing was shown to any
        raise RuntimeError(done.stdout.decode(errors="replace")[-2000:])
    return Outcome.NOTICED if done.returncode else Outcome.NOT_NOTICED


if __name__ == "__main__":
    main()
