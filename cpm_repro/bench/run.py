"""``cpm bench``: every script in `benchmarks/`, each in its own process, and one report of all."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cpm_repro.bench.figures import report_figures
from cpm_repro.bench.page import report_page
from cpm_repro.bench.record import Answer, BenchReport, load_answer, save_report
from cpm_repro.bench.text import report_markdown
from cpm_repro.config import unknown
from cpm_repro.environment import environment
from cpm_repro.errors import UserError
from cpm_repro.files import atomic_write

SCRIPT_MARK = "cpm_repro.bench import"
"""A file in benchmarks/ that imports this room is a benchmark; others are its helpers."""

LONGEST = 900.0
"""Seconds one script may take before it is given up."""


def run_benchmarks(
    out: Path, names: Sequence[str] = (), *, quick: bool = False, folder: Path | None = None
) -> BenchReport:
    """Run the scripts and write ``report.json``, ``report.md``, ``report.html`` and figures to ``out``.

    A script that fails, or whose checked result is wrong, is reported with its reason and without a time; the
    others go on. Until all are done, ``report.part.json`` has the report of those that are, so that whoever
    ends this keeps them.

    Args:
        out: folder for the report.
        names: scripts to run, without ``.py``; all of them by default.
        quick: small sizes, to see that everything runs.
        folder: of the scripts; default: `benchmarks/` beside the package.

    Raises:
        UserError: the package was installed without its repository, or an unknown script.
        EnvironmentFailure: ``out`` cannot be written, which is found out before anything is measured.
    """
    scripts = find_scripts(folder)
    for name in names:
        if name not in scripts:
            raise UserError(unknown("benchmark", name, list(scripts)))
    chosen = tqdm(list(names) or list(scripts), unit="benchmark", disable=not sys.stderr.isatty())
    report, part = _report_of([], quick), out / "report.part.json"
    save_report(report, part)
    try:
        for name in chosen:
            report = _report_of([*report.answers, _run_script(scripts[name], quick)], quick)
            save_report(report, part)
    except KeyboardInterrupt:
        print(f"\n{len(report.answers)} of {len(chosen)} benchmarks are kept in {part}", file=sys.stderr)
        raise
    write_report(report, out)
    part.unlink()
    return report


def _report_of(answers: list[Answer], quick: bool) -> BenchReport:
    """The answers with today's date, this commit and this machine."""
    here = environment()
    return BenchReport(
        date=here["date"],
        commit=here["commit"] or "not a checkout",
        device=here["gpu"] or here["processor"],
        threads=here["threads"],
        versions=_versions(here),
        quick=quick,
        answers=answers,
    )


def write_report(report: BenchReport, out: Path) -> None:
    """JSON, Markdown, HTML and figures of a report, in the folder ``out``."""
    save_report(report, out / "report.json")
    figures = report_figures(report, out)
    text = report_markdown(report)
    pictures = "\n".join(f"![{path.stem}]({path.name})" for path in figures)
    with atomic_write(out / "report.md", "w") as file:
        file.write(f"{text}\n{pictures}\n" if figures else text)
    with atomic_write(out / "report.html", "w") as file:
        file.write(report_page(report, figures))


def find_scripts(folder: Path | None = None) -> dict[str, Path]:
    """Name -> file of every benchmark.

    Raises:
        UserError: there are none, as in an installed package.
    """
    folder = folder or Path(__file__).parents[2] / "benchmarks"
    scripts = {
        path.stem: path
        for path in sorted(folder.glob("*.py"))
        if SCRIPT_MARK in path.read_text(encoding="utf-8")
    }
    if not scripts:
        raise UserError("the benchmarks are not installed with the package: run this in a clone of it")
    return scripts


def _run_script(path: Path, quick: bool) -> Answer:
    """One script's answer; what it said last, if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "answer.json"
        command = [sys.executable, str(path), "--json", str(target), *(["--quick"] if quick else [])]
        # The scripts must measure this package, not another one that happens to be installed.
        here = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": here.rstrip(os.pathsep)}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, env=environment)
        except subprocess.TimeoutExpired:
            return _failed(path, f"given up after {LONGEST:.0f} s")
        if done.returncode or not target.exists():
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            return _failed(path, said[-1] if said else f"exit code {done.returncode}")
        return load_answer(target)


def _failed(path: Path, reason: str) -> Answer:
    return Answer(path.stem, path.stem, "", [], None, [], reason)


def _versions(here: dict[str, Any]) -> dict[str, str]:
    import torch

    versions = {"Python": here["python"], "torch": here["torch"]}
    for name in ("numpy", "opencv-python-headless"):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    if here["gpu"]:
        versions |= {"gpu": here["gpu"], "CUDA": str(torch.version.cuda)}
    return versions
