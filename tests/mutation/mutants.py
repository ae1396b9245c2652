"""Small faults planted in arithmetic, one at a time: does a test notice?

A mutant is a file's text with one operator, number or word changed. Declarations, messages of errors and
comments are left alone: a fault there is no fault of the arithmetic.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_OPERATORS = {
    "+": "-", "-": "+", "*": "/", "/": "*", "//": "/", "%": "*", "**": "*",
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==",
    "+=": "-=", "-=": "+=", "*=": "/=", "/=": "*=",
    "&&": "||", "||": "&&", "&": "|", "|": "&",
}  # fmt: skip
_WORDS = {
    "and": "or",
    "or": "and",
    "True": "False",
    "False": "True",
    "min": "max",
    "max": "min",
    "fminf": "fmaxf",
    "fmaxf": "fminf",
    "floor": "ceil",
    "ceil": "floor",
    "floorf": "ceilf",
}


@dataclass(frozen=True)
class Mutant:
    """One fault: where, what, and the whole text with it."""

    path: Path
    line: int
    before: str
    after: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before} -> {self.after}"


def mutants(root: Path, path: Path) -> list[Mutant]:
    """All faults of a Python or C++ file; ``path`` is relative to ``root``."""
    text = (root / path).read_text(encoding="utf-8")
    found = _python(text) if path.suffix == ".py" else _cpp(text)
    lines = text.splitlines(keepends=True)
    made = []
    for row, start, end, after in found:
        line = lines[row]
        changed = [*lines[:row], line[:start] + after + line[end:], *lines[row + 1 :]]
        made.append(Mutant(path, row + 1, line[start:end], after, "".join(changed)))
    return made


Place = tuple[int, int, int, str]
"""Row and columns (0-based, end excluded) of a token, and what to put there."""


def _python(text: str) -> Iterator[Place]:
    skipped = _python_rows_to_skip(ast.parse(text))
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        row = token.start[0] - 1
        previous, before = before, token.string
        if row in skipped or token.start[0] != token.end[0]:
            continue
        after = None
        if token.type == tokenize.OP and not (token.string in "**" and previous in ("(", ",", "[")):
            after = _OPERATORS.get(token.string)
        elif token.type == tokenize.NAME:
            after = _WORDS.get(token.string)
        elif token.type == tokenize.NUMBER:
            after = _other_number(token.string)
        if after is not None:
            yield row, token.start[1], token.end[1], after


def _python_rows_to_skip(tree: ast.Module) -> set[int]:
    """Rows (0-based) of imports, signatures, annotations of fields, and of what is only said to the user."""
    rows: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
            rows |= set(range(first - 1, node.body[0].lineno - 1))
        elif isinstance(node, (ast.Import, ast.ImportFrom, ast.Raise, ast.AnnAssign, ast.Assert)):
            rows |= set(range(node.lineno - 1, (node.end_lineno or node.lineno)))
    return rows


_CPP_TOKEN = re.compile(
    r"(?<= )(?P<op>[-+*/]=?|[<>]=?|[=!]=|&&|\|\|)(?= )"
    r"|(?<![\w.])(?P<number>\d+\.\d+f?|\d+)(?![\w.])"
    r"|\b(?P<word>min|max|fminf|fmaxf|floor|ceil|floorf)\b(?=\()"
)


def _cpp(text: str) -> Iterator[Place]:
    for row, line in enumerate(text.splitlines()):
        code = line.split("//", 1)[0]
        if code.lstrip().startswith(("#", "template", "enum", "static_assert")):
            continue
        for match in _CPP_TOKEN.finditer(code):
            if match["op"]:
                after = _OPERATORS.get(match["op"])
            else:
                after = _other_number(match["number"]) if match["number"] else _WORDS[match["word"]]
            if after is not None:
                yield row, match.start(), match.end(), after


def _other_number(text: str) -> str:
    """A number one above; of a fraction, one and a half times as large, so that it stays of its kind."""
    digits, suffix = (text[:-1], "f") if text.endswith("f") else (text, "")
    if re.fullmatch(r"\d+", digits):
        return str(int(digits) + 1)
    try:
        value = float(digits)
    except ValueError:
        return text  # a complex or hexadecimal number; nobody writes one here
    return f"{value * 1.5 if value else 0.5!r}{suffix}"
