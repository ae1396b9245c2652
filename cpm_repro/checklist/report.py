"""The checklist as Markdown, HTML and JSON."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cpm_repro.checklist.result import DIFFERS, NOT_RUN, REPRODUCED, Result
from cpm_repro.files import atomic_write, write_json
from cpm_repro.markdown import table

_INTRODUCTION = (
    "Every number the paper and its release published, and whether this code reproduces it. "
    "A claim is called reproduced only when a run has shown it; its proof is linked."
)
_HEADER = ("Claim", "Published", "Here", "Status", "Proof")


def write_report(folder: Path, results: Sequence[Result]) -> None:
    """Write CHECKLIST.md, CHECKLIST.html and CHECKLIST.json into ``folder``."""
    with atomic_write(folder / "CHECKLIST.md", "w") as file:
        file.write(markdown(results))
    with atomic_write(folder / "CHECKLIST.html", "w") as file:
        file.write(page(results))
    write_json(folder / "CHECKLIST.json", [as_dict(result) for result in results])


def markdown(results: Sequence[Result]) -> str:
    """The whole checklist as one Markdown text."""
    lines = ["# Checklist", "", _INTRODUCTION, "", summary(results), ""]
    for section, members in by_section(results):
        lines += [f"## {section}", "", table(_HEADER, map(_linked, members), "l"), ""]
    return "\n".join(lines)


def page(results: Sequence[Result]) -> str:
    """The whole checklist as one HTML page that needs no other file."""
    body = [
        f"<h1>Checklist</h1><p>{html.escape(_INTRODUCTION)}</p><p><b>{html.escape(summary(results))}</b></p>"
    ]
    for section, members in by_section(results):
        head = "".join(f"<th>{name}</th>" for name in _HEADER)
        rows = "".join(_html_row(result) for result in members)
        body.append(f"<h2>{html.escape(section)}</h2><table><tr>{head}</tr>{rows}</table>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Checklist</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def as_dict(result: Result) -> dict[str, Any]:
    """The claim with what is known about it, ready for JSON."""
    evidence = result.evidence
    return {
        **asdict(result.claim),
        "status": result.status,
        "value": result.value,
        "difference": result.difference,
        "stale": result.stale,
        "missing": result.missing,
        "proof": result.proof,
        "date": evidence.date if evidence else None,
        "commit": evidence.commit if evidence else None,
        "hardware": evidence.hardware if evidence else None,
    }


def summary(results: Sequence[Result]) -> str:
    """How many of each kind."""
    counts = {name: sum(r.status == name for r in results) for name in (REPRODUCED, DIFFERS, NOT_RUN)}
    text = ", ".join(f"{count} {name}" for name, count in counts.items())
    stale = sum(result.stale for result in results)
    return f"{len(results)} claims: {text}" + (f"; {stale} of the proofs are stale" if stale else "") + "."


def by_section(results: Sequence[Result]) -> list[tuple[str, list[Result]]]:
    """Results of each section, in order of first appearance."""
    sections: dict[str, list[Result]] = {}
    for result in results:
        sections.setdefault(result.claim.section, []).append(result)
    return list(sections.items())


def cells(result: Result) -> list[str]:
    """Texts of one row, without markup."""
    claim = result.claim
    statement = f"{claim.statement} ({claim.source})"
    if claim.protocol:
        statement += f" [{claim.protocol}]"
    if claim.note:
        statement += f". {claim.note}"
    return [
        statement,
        _published(result),
        _value(result.value, claim.unit),
        _status(result),
        _provenance(result),
    ]


def _published(result: Result) -> str:
    claim = result.claim
    bound = {"within": "", "at least": "at least ", "at most": "at most "}[claim.compare]
    tolerance = f" ± {claim.tolerance:g}" if claim.tolerance else ""
    return f"{bound}{_value(claim.published, claim.unit)}{tolerance}"


def _status(result: Result) -> str:
    if result.status == NOT_RUN:
        missing = "; ".join(result.missing)
        return f"not run: missing {missing}. Run: {result.claim.command}"
    text = result.status
    if result.difference:
        text += (
            f" by {result.difference}" if result.status == DIFFERS else f" (difference {result.difference})"
        )
    if result.evidence and result.evidence.detail:  # on what data, with what budget
        text += f": {result.evidence.detail}"
    return text + (" — stale: the code has changed since" if result.stale else "")


def _provenance(result: Result) -> str:
    evidence = result.evidence
    if evidence is None:
        return ""
    return ", ".join(filter(None, (evidence.date[:10], evidence.commit, evidence.hardware)))


def _value(value: Any, unit: str) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(_value(item, "") for item in value) + (f" {unit}" if unit else "")
    if isinstance(value, str):
        return value
    return f"{value:.7g}" + (f" {unit}" if unit else "")


def _linked(result: Result) -> list[str]:
    """One row's texts for Markdown, the last a link to the proof."""
    texts = cells(result)
    if result.proof:
        texts[-1] = f"[{texts[-1]}]({result.proof})"
    return texts


def _html_row(result: Result) -> str:
    kind = "stale" if result.stale else result.status.replace(" ", "-")
    texts = [html.escape(text) for text in cells(result)]
    if result.proof:
        texts[-1] = f'<a href="{html.escape(result.proof)}">{texts[-1]}</a>'
    columns = "".join(f"<td>{text}</td>" for text in texts)
    return f'<tr class="{kind}" id="{html.escape(result.claim.id)}">{columns}</tr>'


_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1200px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.35em .6em;border-bottom:1px solid #ddd}
td:nth-child(4){border-left:6px solid #bbb}
.reproduced td:nth-child(4){border-color:#009e73}
.differs td:nth-child(4){border-color:#d55e00}
.stale td:nth-child(4){border-color:#e69f00}
"""
