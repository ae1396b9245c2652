"""A file that grows by one line per finished item, so that long work goes on where it was cut off."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cpm_repro.errors import EnvironmentFailure, UserError
from cpm_repro.files import atomic_write, parse_json


class Journal:
    """Results by index, in memory and, with a ``path``, on disk: JSON lines below one of what they are of.

    Args:
        path: the file; None keeps everything in memory alone.
        about: what the results are of. A file about something else is refused rather than mixed.
        fits: whether a result, with its index, can be one of these; a file of others is none of ours.

    Raises:
        UserError: the file is about something else, or no such file.
        EnvironmentFailure: it cannot be written.
    """

    def __init__(
        self, path: Path | None, about: dict[str, Any], fits: Callable[[int, Mapping[str, Any]], bool]
    ) -> None:
        self.entries: dict[int, dict[str, Any]] = {}
        self._path = path
        if path is None:
            return
        if path.exists():
            self._read(path, about, fits)
        else:
            with atomic_write(path, "w") as file:
                file.write(json.dumps(about) + "\n")

    def add(self, index: int, entry: dict[str, Any]) -> None:
        """Keep one result; when this returns it is on the disk."""
        self.entries[index] = entry
        if self._path is None:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"index": index, **entry}) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise EnvironmentFailure(f"cannot write {self._path}: {error.strerror or error}") from error

    def _read(
        self, path: Path, about: dict[str, Any], fits: Callable[[int, Mapping[str, Any]], bool]
    ) -> None:
        """Take up the whole lines; a last one that was cut off is removed."""
        foreign = f"{path}: wanted the results of an earlier run, got something else"
        try:
            text = path.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]
            lines = [parse_json(line) for line in whole.splitlines()]
            given, rows = lines[0], lines[1:]
            self.entries = {int(row.pop("index")): row for row in rows}
            different = [name for name in about if given.get(name) != about[name]]
        except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
            raise UserError(foreign) from error
        if different:
            name = different[0]
            raise UserError(
                f"{path}: holds results for another {name} ({given.get(name)}, now {about[name]}): "
                "give another --out or remove it"
            )
        if not all(fits(index, entry) for index, entry in self.entries.items()):
            raise UserError(foreign)
        if whole != text:
            with atomic_write(path, "w") as file:
                file.write(whole)
