"""The README's table of benchmarks, made from the dated reports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cpm_repro.bench.text import GOALS_HEAD, REPORT_HEAD
from cpm_repro.errors import UserError
from cpm_repro.files import atomic_write

BEGIN, END = "<!-- begin: cpm bench readme -->", "<!-- end: cpm bench readme -->"
"""What stands between these two lines of the README is made, not written."""


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


def update_readme(readme: Path, results: Path) -> bool:
    """Write the table of the reports in ``results`` into ``readme``; True if that changed anything.

    Raises:
        UserError: the file cannot be read or lacks the two marks.
    """
    text = _read(readme)
    begin, end = text.find(BEGIN), text.find(END)
    if begin < 0 or end < begin:
        raise UserError(f"{readme}: wanted the lines {BEGIN!r} and {END!r}, in this order")
    made = f"{text[: begin + len(BEGIN)]}\n{readme_table(results)}{text[end:]}"
    if made == text:
        return False
    with atomic_write(readme, "w") as file:
        file.write(made)
    return True


def readme_table(results: Path) -> str:
    """Markdown: per machine, every goal of every benchmark's newest report, with a link to it."""
    rows = newest(goal_rows(results))
    lines = []
    for machine in dict.fromkeys(row.machine for row in rows):
        lines += [
            f"{machine}:",
            "",
            "| benchmark | case | asked for | measured (middle half) | | report |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| {row.benchmark} | {row.case} | {row.goal} | {row.measured} | {row.verdict} | "
            f"[{row.date}](benchmarks/results/{row.report}) |"
            for row in rows
            if row.machine == machine
        ]
        lines.append("")
    if not any(" threads" not in row.machine for row in rows):
        lines += ["GPU: not measured.", ""]
    return "\n".join(lines)


def newest(rows: list[GoalRow]) -> list[GoalRow]:
    """Of every machine and benchmark, the rows of the latest report (by date, then name)."""
    latest: dict[tuple[str, str], tuple[str, str]] = {}
    for row in rows:
        key, when = (row.machine, row.benchmark), (row.date, row.report)
        latest[key] = max(latest.get(key, when), when)
    return [row for row in rows if latest[row.machine, row.benchmark] == (row.date, row.report)]


def goal_rows(results: Path) -> list[GoalRow]:
    """The goals of all of ``cpm bench``'s reports in a folder; other files there are left alone."""
    return [row for path in sorted(results.glob("*.md")) for row in _rows(path)]


def _rows(path: Path) -> Iterator[GoalRow]:
    lines = _read(path).splitlines()
    if not lines or not lines[0].startswith(REPORT_HEAD):
        return
    machine = lines[0].removeprefix(REPORT_HEAD).strip()
    found = re.search(r"^(\d{4}-\d{2}-\d{2}), commit ", "\n".join(lines[1:4]), re.MULTILINE)
    if found is None:
        raise UserError(f"{path}: wanted a date and a commit below the title")
    benchmark, inside = "", False
    for line in lines:
        if line.startswith("## "):
            benchmark = line[3:].strip()
        if line == GOALS_HEAD:
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not line.startswith("| ---"):
            case, goal, measured, verdict = (cell.strip() for cell in line.strip("|").split(" | "))
            yield GoalRow(machine, found[1], benchmark, case, goal, measured, verdict, path.name)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
