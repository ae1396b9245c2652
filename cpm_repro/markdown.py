"""Markdown tables: every table of our reports is written here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str = "lr") -> str:
    """A Markdown table, without a line break at its end.

    ``align`` has a letter for each column, l (words) or r (numbers); the last goes on for those that follow:
    of "lr" the first column is words and all others are numbers. Cells are lines of any text: the bars in a
    part's name are no borders.
    """
    rules = {"l": "---", "r": "---:"}
    rule = [rules[letter] for letter in align.ljust(len(head), align[-1])]
    return "\n".join("| " + " | ".join(map(_cell, cells)) + " |" for cells in (head, rule, *rows))


def _cell(text: str) -> str:
    return " ".join(text.splitlines()).replace("|", "\\|")
