"""What docs/install.md says was tested together is what is installed here, and what the lock pins."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- begin: versions -->\n", "<!-- end: versions -->"


def pinned() -> dict[str, str]:
    """Version of every package of the lock but the stubs of the type checker."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name: version for name, version in pairs if not name.startswith("types-")}


def versions_table() -> str:
    """Markdown: three packages a line."""
    cells = [f"{name} | {version}" for name, version in pinned().items()]
    cells += [" | "] * (-len(cells) % 3)
    rows = [f"| {' | '.join(cells[i : i + 3])} |" for i in range(0, len(cells), 3)]
    head = ["| " + " | ".join(["package | version"] * 3) + " |", "| " + " | ".join(["---"] * 6) + " |"]
    return "\n".join([*head, *rows, ""])


def test_the_table_is_the_lock():
    text = (ROOT / "docs" / "install.md").read_text()
    assert text[text.index(BEGIN) + len(BEGIN) : text.index(END)] == versions_table()


def test_the_lock_is_what_runs_here():
    for name, version in pinned().items():
        try:
            found = importlib.metadata.version(name).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue  # a development tool that an installed wheel's tests do without
        assert found == version, name
    stated = re.search(r"under Python (\S+) on", (ROOT / "docs" / "install.md").read_text())[1]
    assert ".".join(map(str, sys.version_info[:2])) == stated, "add the version to docs/install.md"
