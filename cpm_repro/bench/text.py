"""Benchmark results as Markdown."""

from __future__ import annotations

from cpm_repro.bench.record import Answer, BenchReport, Measured, Spread

REPORT_HEAD = "# Benchmarks on "
TIMES_HEAD = "| case | way | time | middle half | against ours | GB/s | GFLOP/s | share of the limit |"
GOALS_HEAD = "| case | goal | measured (middle half) | |"
"""Lines by which :mod:`cpm_repro.bench.documents` finds what it needs in a report."""


def answer_markdown(answer: Answer) -> str:
    """One question: what was asked, the limits, a row per way, and which goals were reached."""
    lines = [f"## {answer.title}", "", answer.about, ""]
    if answer.failure:
        return "\n".join([*lines, f"**FAILED, no time is reported:** {answer.failure}", ""])
    if answer.limits is not None:
        limits = answer.limits
        matrix = f"{limits.float32 / 1e9:.0f} GFLOP/s in float32"
        if limits.bfloat16:
            matrix += f", {limits.bfloat16 / 1e9:.0f} in bfloat16"
        lines += [
            f"Limits measured in this run: {limits.fill / 1e9:.1f} GB/s written by fill, "
            f"{limits.copy / 1e9:.1f} GB/s read and written by copy, matrix products {matrix}.",
            "",
        ]
    what = "memory" if any(case.unit == "bytes" for case in answer.cases) else "time"
    lines += [
        TIMES_HEAD.replace(" time ", f" {what} "),
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for case in answer.cases:
        lines += _rows(case)
    checks = "; ".join(
        f"{case.name}: {case.error:.1e} (allowed {case.tolerance:.1e})" for case in answer.cases
    )
    lines += ["", f"Checked before timing, largest difference from the reference: {checks}."]
    goals = goals_markdown(answer)
    if goals:
        lines += ["", *goals]
    return "\n".join([*lines, *[f"\n{note}" for note in answer.notes], ""])


def goals_markdown(answer: Answer) -> list[str]:
    """A table of the goals of a question; empty when it has none."""
    rows = [
        f"| {case.name} | {_wanted(against, wanted, case.unit)} | {_got(against, got)} | "
        f"{'reached' if reached else 'missed'} |"
        for case in answer.cases
        for against, wanted, got, reached in case.verdicts()
    ]
    return [GOALS_HEAD, "| --- | --- | --- | --- |", *rows] if rows else []


def report_markdown(report: BenchReport) -> str:
    """The whole report: machine, commit, versions, then every question."""
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    head = [
        f"{REPORT_HEAD}{report.machine}",
        "",
        f"{report.date}, commit {report.commit}; {versions}.",
        "",
    ]
    if report.quick:
        head += [
            "**A quick run in small sizes: it shows that everything runs, its numbers mean nothing.**",
            "",
        ]
    if not report.versions.get("gpu"):
        head += ["GPU: not measured.", ""]
    return "\n".join([*head, *[answer_markdown(answer) for answer in report.answers]])


def _rows(case: Measured) -> list[str]:
    rows = []
    for way in case.samples:
        time = case.seconds(way)
        ratio = "1" if way == case.ours else f"{case.ratio(way).median:.2f}x"
        share = case.share() if way == case.ours else None
        rows.append(
            f"| {case.name} | {way} | {_amount(time.median, case)} | "
            f"{_amount(time.low, case)} to {_amount(time.high, case)} | "
            f"{ratio} | {_rate(case.bytes, time)} | {_rate(case.operations, time)} | "
            f"{'' if share is None else f'{100 * share.median:.0f} %'} |"
        )
    if case.allowed:
        rows.append(f"| {case.name} | *asked for* | {_time(case.allowed)} | | | | | |")
    elif case.limit_seconds:
        rows.append(f"| {case.name} | *predicted* | {_time(case.limit_seconds)} | | | | | |")
    return rows


def _rate(amount: float, time: Spread) -> str:
    return f"{amount / time.median / 1e9:.1f}" if amount else ""


def _amount(value: float, case: Measured) -> str:
    return f"{value / 1e6:.4g} MB" if case.unit == "bytes" else _time(value)


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def _wanted(against: str, wanted: float, unit: str) -> str:
    if against == "limit":
        return f"at least {100 * wanted:.0f} % of the limit's rate"
    return f"{against} takes at least {wanted:g} times as {'much' if unit == 'bytes' else 'long'}"


def _got(against: str, got: Spread) -> str:
    if against == "limit":
        return f"{100 * got.median:.0f} % ({100 * got.low:.0f} to {100 * got.high:.0f})"
    return f"{got.median:.2f} ({got.low:.2f} to {got.high:.2f})"
