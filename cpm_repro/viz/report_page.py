"""A report as one HTML page that needs no other file."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif;
  max-width: 64em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 }
td, th { padding: .25em .7em; border-bottom: 1px solid #ddd }
td { text-align: right } td:nth-child(-n+2), th:nth-child(-n+2) { text-align: left }
img { max-width: 100% } .failed { color: #b00020 }
"""


def html_page(title: str, blocks: Sequence[str], figures: Sequence[Path]) -> str:
    """Blocks of :func:`html_block` as a page, with the PNG ``figures`` inside it."""
    parts = list(blocks)
    for path in figures:
        data = base64.b64encode(path.read_bytes()).decode()
        parts.append(f'<img alt="{html.escape(path.stem)}" src="data:image/png;base64,{data}">')
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style>\n{''.join(parts)}</html>\n"
    )


def html_block(text: str, *, failed: bool = False) -> str:
    """The little Markdown that our own reports use: headings, paragraphs, tables."""
    out, table = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            cells = line.strip("|").split(" | ")  # bars in them are written \|
            table.append([html.escape(cell.strip().replace("\\|", "|")) for cell in cells])
            continue
        if table:
            out.append(_table(table))
            table = []
        level = len(line) - len(line.lstrip("#"))
        if level:
            out.append(f"<h{level}>{html.escape(line.strip('# '))}</h{level}>")
        elif line.strip():
            css = ' class="failed"' if failed else ""
            out.append(f"<p{css}>{html.escape(line).replace('**', '')}</p>")
    return "\n".join(out)


def _table(rows: list[list[str]]) -> str:
    head = "".join(f"<th>{cell}</th>" for cell in rows[0])
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows[2:])
    return f"<table><tr>{head}</tr>{body}</table>"
