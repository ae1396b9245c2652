"""Sizes of many images, each decoded once to be sure that it opens; what is known survives a kill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cpm_repro.errors import EnvironmentFailure, UserError
from cpm_repro.files import parse_json
from cpm_repro.image_file import read_image

_FLUSH_EVERY = 50


class ImageSizes:
    """(width, height) of an image file, or the reason why it does not open.

    Args:
        notes: a file of one JSON line per image that a killed run left, and that is gone on with; an image
            whose file has changed since is looked at again. None keeps nothing.
    """

    def __init__(self, notes: IO[str] | None = None) -> None:
        self._notes = notes
        self._known: dict[str, tuple[list[int], tuple[int, int] | str]] = {}
        self._unflushed = 0
        if notes is not None:
            notes.seek(0)
            for line in notes:
                self._remember(line)

    def _remember(self, line: str) -> None:
        """Take one line over; one that a kill cut off, or that is none of ours, is passed over."""
        try:
            path, stamp, found = parse_json(line)
            self._known[path] = (stamp, found if isinstance(found, str) else (int(found[0]), int(found[1])))
        except (ValueError, TypeError, LookupError, OverflowError):
            return

    def __call__(self, file: Path) -> tuple[int, int]:
        """Size of ``file``.

        Raises:
            UserError: it does not open as an image.
        """
        stamp = _stamp(file)
        known = self._known.get(str(file))
        if known is None or known[0] != stamp:
            known = (stamp, _look(file))
            self._known[str(file)] = known
            self._note(str(file), *known)
        if isinstance(known[1], str):
            raise UserError(known[1])
        return known[1]

    def _note(self, path: str, stamp: list[int], found: tuple[int, int] | str) -> None:
        if self._notes is None:
            return
        self._unflushed = (self._unflushed + 1) % _FLUSH_EVERY
        with _one_line(self._notes.name):
            self._notes.write(json.dumps([path, stamp, found]) + "\n")
            if not self._unflushed:
                self._notes.flush()


def _look(file: Path) -> tuple[int, int] | str:
    try:
        height, width = read_image(file).shape[:2]
    except UserError as error:
        return str(error)
    return width, height


def _stamp(file: Path) -> list[int]:
    """Bytes and time of the last change; an absent file has none."""
    try:
        status = file.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


@contextmanager
def _one_line(path: str | Path) -> Iterator[None]:
    """What goes wrong with the notes, in one line."""
    try:
        yield
    except OSError as error:
        raise EnvironmentFailure(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def noted_sizes(path: Path) -> Iterator[ImageSizes]:
    """`ImageSizes` with the notes ``path``, which are deleted when the body is through without an error.

    Raises:
        EnvironmentFailure: they cannot be written.
    """
    with _one_line(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        notes = open(path, "a+", encoding="utf-8", errors="replace")  # noqa: SIM115
    try:
        yield ImageSizes(notes)
    finally:
        with _one_line(path):  # a full disk shows here too: what is not yet written is written now
            notes.close()
    path.unlink()
