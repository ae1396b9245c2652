"""What got slower between two reports, told from noise."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpm_repro.bench.record import BenchReport, Measured, load_report
from cpm_repro.errors import UserError
from cpm_repro.markdown import table

SMALLEST_CHANGE = 0.05
"""Changes of the median below 5 % are not reported, whatever the test says."""

AGREEMENT = 0.10
"""Two runs on one machine agree on a goal when its verdict is the same and its ratio within 10 %."""

SIGNIFICANCE = 0.01
"""Of the Mann-Whitney test, before it is divided by the number of cases compared."""

_EXACT_PAIRS = 2500
"""Rounds of one report times rounds of the other, up to which the exact test takes milliseconds."""

VERDICTS = ("slower", "faster", "more memory", "less memory", "too few rounds", "same")
"""In the order of the table. Too few rounds: whatever they show, the test could not call it significant."""

CLOCK = "the clock"


@dataclass(frozen=True)
class Change:
    """One case in both reports. ``ratio``: how many times as long as before (as much memory) ours takes."""

    script: str
    case: str
    beside: str  # the way that both runs are measured against, or the clock; empty: memory
    ratio: float
    p_value: float | None  # None of memory
    verdict: str  # one of VERDICTS


def compare_reports(before: Path, after: Path) -> str:
    """A Markdown table of what got slower, faster or stayed; the cases that only one report has are named.

    Times are taken relative to the limit, else to the first peer, that both reports timed in the same rounds,
    so that a machine that was busy in one of the two runs does not look like a change. Without a peer they
    are plain times, which is only allowed on one machine. Memory is compared as it is.

    Raises:
        UserError: a file is no report, one is a quick run, or the machines differ and a case has no peer.
    """
    old, new = load_report(before), load_report(after)
    for path, report in ((before, old), (after, new)):
        if report.quick:
            raise UserError(f"{path}: a quick run says nothing about speed: wanted a full run")
    changes = changes_between(old, new)
    head = ("benchmark", "case", "beside", "times as much", "p", "")
    rows = [
        [
            change.script,
            change.case,
            change.beside,
            f"{change.ratio:.2f}",
            "" if change.p_value is None else f"{change.p_value:.1g}",
            change.verdict,
        ]
        for change in sorted(changes, key=lambda change: VERDICTS.index(change.verdict))
    ]
    lines = [f"{old.date} ({old.commit}) to {new.date} ({new.commit})", "", table(head, rows, "lllrrl")]
    lines += ["", *_only_one(old, new)]
    counts = Counter(change.verdict for change in changes)
    told = [f"{counts[name]} {name}" for name in VERDICTS[:-1] if counts[name] or name in VERDICTS[:2]]
    lines += [f"{len(changes)} cases: {', '.join(told)}.", "", *_agreement(old, new)]
    return "\n".join(lines).rstrip()


def disagreements(old: BenchReport, new: BenchReport) -> tuple[int, list[str]]:
    """Goals that both reports have, how many, and a line for each on which they do not agree."""
    before, after = _goals(old), _goals(new)
    common = [key for key in before if key in after]
    lines = []
    for key in common:
        (a, a_reached), (b, b_reached) = before[key], after[key]
        ratio = b / a if a else float("inf")
        if a_reached == b_reached and 1 - AGREEMENT <= ratio <= 1 + AGREEMENT:
            continue
        script, case, against, wanted = key
        verdicts = " and ".join("reached" if reached else "missed" for reached in (a_reached, b_reached))
        lines.append(f"{script}, {case}, {against} {wanted:g}: {a:.2f} and {b:.2f}, {verdicts}.")
    return len(common), lines


def _goals(report: BenchReport) -> dict[tuple[str, str, str, float], tuple[float, bool]]:
    return {
        (answer.script, case.name, against, wanted): (got.median, reached)
        for answer in report.answers
        for case in answer.cases
        for against, wanted, got, reached in case.verdicts()
    }


def _agreement(old: BenchReport, new: BenchReport) -> list[str]:
    """Whether two runs on one machine come to the same verdicts."""
    if old.machine != new.machine:
        return []
    count, lines = disagreements(old, new)
    if not count:
        return []
    head = f"{count - len(lines)} of {count} goals: the same verdict, ratios within {AGREEMENT:.0%}."
    return [head, *[f"- {line}" for line in lines]]


def changes_between(old: BenchReport, new: BenchReport) -> list[Change]:
    """Every case that both reports have."""
    before, after = _cases(old), _cases(new)
    common = [key for key in before if key in after]
    return [
        _change(key, before[key], after[key], len(common), same_machine=old.machine == new.machine)
        for key in common
    ]


def _cases(report: BenchReport) -> dict[tuple[str, str], Measured]:
    return {(answer.script, case.name): case for answer in report.answers for case in answer.cases}


def _change(
    key: tuple[str, str], old: Measured, new: Measured, comparisons: int, *, same_machine: bool
) -> Change:
    if old.unit == "bytes":
        a, b = (np.array(case.samples[case.ours]) for case in (old, new))
        apart = b.min() > a.max() or b.max() < a.min()
        ratio = float(np.median(b) / np.median(a))
        return Change(
            *key, "", ratio, None, _verdict(ratio, "more memory", "less memory") if apart else "same"
        )
    peers = [way for way in old.samples if way != old.ours and way in new.samples]
    beside = old.limit if old.limit in peers else peers[0] if peers else CLOCK
    if beside == CLOCK and not same_machine:
        raise UserError(f"{key[0]}, {key[1]}: no common peer, and the reports are of different machines")
    a, b = _relative(old, beside), _relative(new, beside)
    ratio = float(np.median(b) / np.median(a))
    p_value = _p_value(a, b)
    wanted = SIGNIFICANCE / comparisons
    verdict = _verdict(ratio, "slower", "faster") if p_value < wanted else "same"
    if 2 / math.comb(len(a) + len(b), len(a)) >= wanted:  # the least p that so many rounds can give
        verdict = "too few rounds"
    return Change(*key, beside, ratio, p_value, verdict)


def _p_value(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided, of the Mann-Whitney test.

    Exact for so few rounds that the normal approximation has no small p (SciPy's own choice is exact up to
    eight), unless values are equal, for which only the approximation has a rule.
    """
    from scipy.stats import mannwhitneyu

    few = min(len(a), len(b)) <= 8 or len(a) * len(b) <= _EXACT_PAIRS
    exact = few and len(np.unique([*a, *b])) == len(a) + len(b)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # equal samples, as when a report is compared with itself
        return float(mannwhitneyu(a, b, method="exact" if exact else "asymptotic").pvalue)


def _verdict(ratio: float, more: str, less: str) -> str:
    """Of a change that is certain."""
    return more if ratio > 1 + SMALLEST_CHANGE else less if ratio < 1 / (1 + SMALLEST_CHANGE) else "same"


def _relative(case: Measured, beside: str) -> np.ndarray:
    ours = np.array(case.samples[case.ours])
    return ours if beside == CLOCK else ours / np.array(case.samples[beside])


def _only_one(old: BenchReport, new: BenchReport) -> list[str]:
    before, after = _cases(old), _cases(new)
    return [
        f"Only in the {name} report: {script}, {case}."
        for name, mine, other in (("first", before, after), ("second", after, before))
        for script, case in mine
        if (script, case) not in other
    ]
