"""A benchmark report as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cpm_repro.bench.record import BenchReport
from cpm_repro.bench.text import answer_markdown, report_markdown
from cpm_repro.viz.report_page import html_block, html_page


def report_page(report: BenchReport, figures: Sequence[Path]) -> str:
    """The report's Markdown as HTML, its figures inside the page."""
    blocks = [html_block(report_markdown(report).split("\n## ", 1)[0])]
    blocks += [html_block(answer_markdown(answer), failed=bool(answer.failure)) for answer in report.answers]
    return html_page(f"Benchmarks on {report.machine}", blocks, figures)
