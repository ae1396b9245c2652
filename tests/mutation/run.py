"""Plants every fault of `mutants.py` in the arithmetic that matters, and counts those that turn a test red.

    python tests/mutation/run.py [evaluation|sgd|math ...] [--sample 40 --seed 0] [--out FILE.md]

Each fault is planted in a copy of the tree, never in the tree itself. A fault in csrc/math is first shown to
the tests that run the CUDA sources on the CPU; one that they do not see is compiled into the extension and
shown to the tests of the operations.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from mutants import Mutant, mutants
from tqdm import tqdm

from cpm_repro.environment import commit

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("cpm_repro", "csrc", "tests", "protos_reference", "setup.py", "pyproject.toml", "README.md")
LONGEST = 240
"""Seconds after which a run of tests counts as red: a fault may well be an endless loop."""


@dataclass(frozen=True)
class Target:
    """Files with arithmetic, and the tests that must notice; ``rebuild``: those after a new extension."""

    files: tuple[str, ...]
    tests: tuple[str, ...]
    rebuild: tuple[str, ...] = ()


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
        tuple(f"csrc/math/{name}.h" for name in ("belief", "fuse", "loss", "resize", "half")),
        ("tests/csrc/test_csrc_stand_in.py",),
        (
            "tests/ops/test_ops_belief_maps.py",
            "tests/ops/test_ops_belief_map_loss.py",
            "tests/ops/test_ops_imresize.py",
            "tests/ops/test_ops_fuse_multiscale.py",
        ),
    ),
}


# Minutes for each fault: runs of Caffe through all their numbers.
DESELECTED = (
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
    parser.add_argument("--out", type=Path, help="Markdown file for the result")
    options = parser.parse_args()
    made = f"{date.today()}, commit {commit()}. Faults planted: all, or a random sample of each target."
    lines = [
        "# Planted faults",
        "",
        made,
        "",
        "| where | faults | noticed | |",
        "| --- | ---: | ---: | ---: |",
    ]
    missed: list[Mutant] = []
    share = 1.0
    for name in options.targets or TARGETS:
        planted, survivors = run(TARGETS[name], options.sample, options.seed)
        missed += survivors
        seen = len(planted) - len(survivors)
        share = min(share, seen / len(planted))
        lines.append(f"| {name} | {len(planted)} | {seen} | {100 * seen / len(planted):.1f} % |")
    lines += ["", f"Command: `python tests/mutation/run.py {' '.join(sys.argv[1:])}`".rstrip(), ""]
    lines += (
        ["Not noticed:", "", *[f"- `{mutant}`" for mutant in missed]] if missed else ["All were noticed."]
    )
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    sys.exit(share < 0.9)


def run(target: Target, sample: int | None, seed: int = 0) -> tuple[list[Mutant], list[Mutant]]:
    """Faults planted, and those that no test noticed."""
    planted = [mutant for file in target.files for mutant in mutants(ROOT, Path(file))]
    if sample is not None and sample < len(planted):
        planted = sorted(random.Random(seed).sample(planted, sample), key=lambda m: (str(m.path), m.line))
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_tree(tree)
        if not passes(tree, target.tests):
            sys.exit(f"these tests fail without any fault: {' '.join(target.tests)}")
        survivors = []
        for mutant in tqdm(planted, unit="fault", disable=not sys.stderr.isatty()):
            if not noticed(tree, mutant, target):
                survivors.append(mutant)
                tqdm.write(f"not noticed: {mutant}", file=sys.stderr)  # a run that is stopped says something
    return planted, survivors


def copy_tree(tree: Path) -> None:
    """The files that tests need, without what Python has compiled."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree / name)


def noticed(tree: Path, mutant: Mutant, target: Target) -> bool:
    """Whether a test turns red with the fault in the tree; the tree is as before afterwards."""
    place = tree / mutant.path
    original = place.read_text(encoding="utf-8")
    place.write_text(mutant.text, encoding="utf-8")
    try:
        if not passes(tree, target.tests):
            return True
        if not target.rebuild:
            return False
        return not (builds(tree) and passes(tree, target.rebuild))
    finally:
        place.write_text(original, encoding="utf-8")


def builds(tree: Path) -> bool:
    """Whether the extension compiles, without CUDA."""
    shutil.rmtree(tree / "build", ignore_errors=True)
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    return (
        subprocess.run(command, cwd=tree, env={**os.environ, "CPM_CUDA": "0"}, capture_output=True).returncode
        == 0
    )


def passes(tree: Path, tests: Sequence[str]) -> bool:
    """Whether the tests pass in the tree, within the time allowed."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    command += [f"--deselect={name}" for name in DESELECTED]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.setdefault("CPM_GOLDEN", str(ROOT.parent / "shared" / "golden"))
    environment.setdefault("CPM_DATA", str(ROOT.parent / "shared" / "data"))
    begin = time.monotonic()
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and time.monotonic() - begin < LONGEST


if __name__ == "__main__":
    main()
