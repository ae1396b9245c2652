"""The documents' tables of benchmarks, made from the dated reports."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cpm_repro.bench.text import GOALS_HEAD, REPORT_HEAD, TIMES_HEAD
from cpm_repro.errors import UserError
from cpm_repro.files import atomic_write
from cpm_repro.markdown import table

BEGIN, END = "<!-- begin: cpm bench readme -->", "<!-- end: cpm bench readme -->"
"""What stands between these two lines of a document is made, not written."""

KERNELS = ("Belief maps", "Multi-scale fusion", "imresize")
"""Benchmarks whose times stand in docs/kernels.md."""


@dataclass(frozen=True)
class GoalRow:
    """One goal as a report states it."""

    machine: str
    date: str
    benchmark: str  # the question's title
    case: str
    goal: str
    measured: str
    verdict: str
    report: str  # file name


@dataclass(frozen=True)
class TimeRow:
    """One way of doing a case as a report states it; cells as they stand there."""

    machine: str
    date: str
    benchmark: str
    report: str
    cells: tuple[str, ...]  # case, way, time, middle half, against ours, GB/s, GFLOP/s, share of the limit


Row = TypeVar("Row", GoalRow, TimeRow)


def update_documents(root: Path) -> list[str]:
    """Write the tables of the reports in ``benchmarks/results`` into the documents; names of those changed.

    Raises:
        UserError: a file cannot be read or lacks the two marks.
    """
    results = root / "benchmarks" / "results"
    made = {
        "README.md": readme_table(results),
        "docs/benchmarks.md": goals_table(results),
        "docs/kernels.md": kernels_table(results),
    }
    return [name for name, table in made.items() if update_block(root / name, table)]


def update_block(document: Path, table: str) -> bool:
    """Put ``table`` between the two marks of a document; True if that changed anything.

    Raises:
        UserError: the file cannot be read or lacks the two marks.
    """
    text = _read(document)
    begin, end = text.find(BEGIN), text.find(END)
    if begin < 0 or end < begin:
        raise UserError(f"{document}: wanted the lines {BEGIN!r} and {END!r}, in this order")
    made = f"{text[: begin + len(BEGIN)]}\n{table}{text[end:]}"
    if made == text:
        return False
    with atomic_write(document, "w") as file:
        file.write(made)
    return True


def readme_table(results: Path) -> str:
    """Markdown: per machine and benchmark, how many goals its newest report reached, and what it missed."""

    def lines(rows: list[GoalRow]) -> Iterator[list[str]]:
        for benchmark in dict.fromkeys(row.benchmark for row in rows):
            goals = [row for row in rows if row.benchmark == benchmark]
            missed = [row for row in goals if row.verdict != "reached"]
            yield [
                benchmark,
                f"{len(goals) - len(missed)} of {len(goals)}",
                "; ".join(f"{row.case}: {row.goal}, measured {row.measured}" for row in missed),
                f"[{goals[0].date}](benchmarks/results/{goals[0].report})",
            ]

    return _per_machine(
        newest(goal_rows(results)), ("benchmark", "reached", "missed", "report"), lines, "lrl"
    )


def goals_table(results: Path) -> str:
    """Markdown: per machine, every goal of every benchmark's newest report, with a link to it."""
    head = ("benchmark", "case", "asked for", "measured (middle half)", "", "report")
    return _per_machine(
        newest(goal_rows(results)),
        head,
        lambda rows: (
            [row.benchmark, row.case, row.goal, row.measured, row.verdict, _link(row)] for row in rows
        ),
        "l",
    )


def kernels_table(results: Path) -> str:
    """Markdown: per machine, the kernels' newest times beside their peers' and the prediction."""
    return _per_machine(
        [row for row in newest(time_rows(results)) if row.benchmark in KERNELS],
        ("benchmark", *TIMES_HEAD[:5], TIMES_HEAD[-1], "report"),
        lambda rows: ([row.benchmark, *row.cells[:5], row.cells[-1], _link(row)] for row in rows),
        "lllrrrrl",
    )


def _per_machine(
    rows: Sequence[Row],
    head: Sequence[str],
    lines: Callable[[list[Row]], Iterable[Sequence[str]]],
    align: str,
) -> str:
    """A table for each machine, of the lines that its rows make; and whether a GPU is missing."""
    blocks = []
    for machine in dict.fromkeys(row.machine for row in rows):
        own = [row for row in rows if row.machine == machine]
        blocks.append(f"{machine}:\n\n{table(head, lines(own), align)}\n")
    if all(" threads" in row.machine for row in rows):
        blocks.append("GPU: not measured.\n")
    return "\n".join(blocks)


def _link(row: Row) -> str:
    return f"[{row.date}](../benchmarks/results/{row.report})"


def newest(rows: Sequence[Row]) -> list[Row]:
    """Of every machine and benchmark, the rows of the latest report (by date, then name)."""
    latest: dict[tuple[str, str], tuple[str, str]] = {}
    for row in rows:
        key, when = (row.machine, row.benchmark), (row.date, row.report)
        latest[key] = max(latest.get(key, when), when)
    return [row for row in rows if latest[row.machine, row.benchmark] == (row.date, row.report)]


def goal_rows(results: Path) -> list[GoalRow]:
    """The goals of all of ``cpm bench``'s reports in a folder; other files there are left alone."""
    return [
        GoalRow(machine, date, benchmark, case, goal, measured, verdict, report)
        for machine, date, benchmark, report, head, cells in _rows(results)
        if head == GOALS_HEAD
        for case, goal, measured, verdict in [cells]
    ]


def time_rows(results: Path) -> list[TimeRow]:
    """The measured ways of all of ``cpm bench``'s reports in a folder."""
    return [
        TimeRow(machine, date, benchmark, report, cells)
        for machine, date, benchmark, report, head, cells in _rows(results)
        if head == TIMES_HEAD
    ]


def _rows(results: Path) -> Iterator[tuple[str, str, str, str, tuple[str, ...], tuple[str, ...]]]:
    """Machine, date, benchmark, report's name, head of the table and cells, of every row of every table."""
    for path in sorted(results.glob("*.md")):
        lines = _read(path).splitlines()
        if not lines or not lines[0].startswith(REPORT_HEAD):
            continue
        machine = lines[0].removeprefix(REPORT_HEAD).strip()
        found = re.search(r"^(\d{4}-\d{2}-\d{2}), commit ", "\n".join(lines[1:4]), re.MULTILINE)
        if found is None:
            raise UserError(f"{path}: wanted a date and a commit below the title")
        benchmark = ""
        head: tuple[str, ...] = ()
        for line in lines:
            cells = tuple(cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|"))
            if line.startswith("## "):
                benchmark = line[3:].strip()
            if not line.startswith("|"):
                head = ()
            elif not head:
                head = cells
            elif not line.startswith("| ---"):
                yield machine, found[1], benchmark, path.name, head, cells


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
