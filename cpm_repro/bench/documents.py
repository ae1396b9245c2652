"""The documents' tables of benchmarks, made from the dated reports."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cpm_repro.bench.text import GOALS_HEAD, QUICK, REPORT_HEAD, TIMES_HEAD
from cpm_repro.errors import UserError
from cpm_repro.files import atomic_write
from cpm_repro.markdown import table

BEGIN, END = "<!-- begin: cpm bench readme -->", "<!-- end: cpm bench readme -->"
"""What stands between these two lines of a document is made, not written."""

KERNELS = ("Belief maps", "Multi-scale fusion", "imresize")
"""Benchmarks whose times stand in docs/kernels.md."""


@dataclass(frozen=True)
class Row:
    """A row of a table of a report."""

    machine: str
    date: str
    benchmark: str  # the question's title
    report: str  # file name
    head: tuple[str, ...]
    cells: tuple[str, ...]


def update_documents(root: Path) -> list[str]:
    """Write the tables of the reports in ``benchmarks/results`` into the documents; names of those changed.

    Raises:
        UserError: a file cannot be read or lacks the two marks, a report is a quick run's, or there are no
            reports, as in an installed package.
    """
    results = root / "benchmarks" / "results"
    if not results.is_dir():
        raise UserError("the reports are not installed with the package: run this in a clone of it")
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

    def lines(rows: list[Row]) -> Iterator[list[str]]:
        for benchmark in dict.fromkeys(row.benchmark for row in rows):
            goals = [row for row in rows if row.benchmark == benchmark]
            missed = [row.cells for row in goals if row.cells[-1] != "reached"]
            yield [
                benchmark,
                f"{len(goals) - len(missed)} of {len(goals)}",
                "; ".join(f"{case}: {goal}, measured {measured}" for case, goal, measured, _ in missed),
                f"[{goals[0].date}](benchmarks/results/{goals[0].report})",
            ]

    head = ("benchmark", "reached", "missed", "report")
    return _per_machine(newest(rows_under(GOALS_HEAD, results)), head, lines, "lrl")


def goals_table(results: Path) -> str:
    """Markdown: per machine, every goal of every benchmark's newest report, with a link to it."""
    return _per_machine(
        newest(rows_under(GOALS_HEAD, results)),
        ("benchmark", "case", "asked for", "measured (middle half)", "", "report"),
        lambda rows: ([row.benchmark, *row.cells, _link(row)] for row in rows),
        "l",
    )


def kernels_table(results: Path) -> str:
    """Markdown: per machine, the kernels' newest times beside their peers' and the prediction."""
    return _per_machine(
        [row for row in newest(rows_under(TIMES_HEAD, results)) if row.benchmark in KERNELS],
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


def rows_under(head: tuple[str, ...], results: Path) -> list[Row]:
    """The rows of every table of that head in ``cpm bench``'s reports; other files there are left alone."""
    return [row for row in _rows(results) if row.head == head]


def _rows(results: Path) -> Iterator[Row]:
    """Every row of every table of every report in a folder."""
    for path in sorted(results.glob("*.md")):
        lines = _read(path).splitlines()
        if not lines or not lines[0].startswith(REPORT_HEAD):
            continue
        machine = lines[0].removeprefix(REPORT_HEAD).strip()
        found = re.search(r"^(\d{4}-\d{2}-\d{2}), commit ", "\n".join(lines[1:4]), re.MULTILINE)
        if found is None:
            raise UserError(f"{path}: wanted a date and a commit below the title")
        if QUICK in lines:
            raise UserError(f"{path}: a quick run's numbers mean nothing: wanted a full run")
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
                yield Row(machine, found[1], benchmark, path.name, head, cells)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
