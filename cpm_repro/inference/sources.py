"""What a user's words mean: images, videos, folders of them, patterns, a list on standard input, cameras."""

from __future__ import annotations

import errno
import glob
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from cpm_repro.errors import UserError
from cpm_repro.paths import shown, what_is_at

IMAGES = {".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif",
          ".avif", ".heic", ".heif",
          ".ppm", ".pgm", ".pbm", ".pnm", ".sr", ".ras", ".hdr", ".exr"}  # fmt: skip
VIDEOS = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts",
          ".m2ts", ".3gp", ".ogv", ".mjpeg", ".mjpg"}  # fmt: skip
"""Suffixes that tell a video from an image. HEIC, in which telephones keep photographs, is not read: it is
among them so that a folder's is reported instead of passed over."""

BELIEFS = "_beliefs"
"""Follows an image's name in that of the picture of its belief maps; of the second person, then "_1"."""

_LONGEST = 180
"""Bytes of a result's name: file systems take 255, of which a frame's number, the longest suffix and the sign
of an unfinished file take up to 50."""

_GRID = re.compile(BELIEFS + r"(_\d+)?$")


@dataclass(frozen=True)
class Source:
    """One thing to look at: ``what`` is a path, or the number of a camera."""

    what: Path | int
    name: str  # of the files made from it, unique in a run

    @property
    def is_video(self) -> bool:
        """Whether frames come out of it, one after another."""
        return isinstance(self.what, int) or self.what.suffix.lower() in VIDEOS

    def __str__(self) -> str:
        return f"camera {self.what}" if isinstance(self.what, int) else str(self.what)


@dataclass(frozen=True)
class Sources:
    """What there is to look at, and a line for each word that meant nothing."""

    found: list[Source]
    problems: list[str]


def find_sources(words: Iterable[str | Path], stdin: TextIO | None = None) -> Sources:
    """Everything that ``words`` name, in their order.

    A word is a file, a folder (its images and videos, by name), a pattern with ``*``, ``?`` or ``[``
    (``**`` goes into folders), a camera's number, or ``-``: one such word per line of standard input. A
    file of that very name comes first. Results of one name are told apart by a number.
    """
    found: list[Path | int] = []
    problems: list[str] = []
    for word in words:
        try:
            lines = _lines(stdin or sys.stdin) if str(word) == "-" else [str(word)]
        except UserError as error:
            problems.append(str(error))
            continue
        for line in lines:
            try:
                found += _meaning(line, problems)
            except UserError as error:
                problems.append(str(error))
            except OSError as error:  # a folder that may be seen, but not be read
                problems.append(f"{shown(error.filename)}: cannot be read: {error.strerror}")
    return Sources(list(_named(found)), problems)


def _lines(stdin: TextIO | None) -> list[str]:
    if stdin is None:  # the shell closed it: `cpm predict - <&-`
        raise UserError("-: standard input is closed")
    try:
        lines = [line.rstrip("\r\n") for line in stdin if line.strip()]
    except (OSError, ValueError) as error:  # closed, or not text
        raise UserError(f"-: standard input cannot be read as a list of files: {error}") from error
    if not lines:
        raise UserError("-: standard input names nothing")
    return lines


def _meaning(word: str, problems: list[str]) -> list[Path | int]:
    """What one word stands for; UserError if nothing, OSError of a folder that may not be read.

    Folders that a pattern passes over for that reason become ``problems``.
    """
    if not word.strip():
        raise UserError("an empty name is no file, folder or camera")
    path = Path(word)
    there = what_is_at(path)
    if there == "a folder":
        inside = _known(path.iterdir())
        if not inside:
            raise UserError(f"{word}: no image or video in this folder")
        return inside
    if there:
        return [path]
    if word.isascii() and word.isdigit() and len(word) < 4:
        return [int(word)]
    if "://" in word:
        raise UserError(f"{word}: addresses are not fetched; download it and give the file")
    if any(sign in word for sign in "*?["):
        matching = _known(Path(name) for name in glob.iglob(word, recursive=True))
        closed = _closed(word)
        problems += [f"{shown(path)}: cannot be read: {os.strerror(errno.EACCES)}" for path in closed]
        if not matching and not closed:
            raise UserError(f"{word}: no image or video matches")
        return matching
    raise UserError(f"{word}: no such file, folder or camera")


def _closed(pattern: str) -> list[Path]:
    """The folders that a pattern goes through and that may not be listed: glob takes them for empty."""
    parts = Path(pattern).parts
    passed: set[Path] = set()
    for index, part in enumerate(parts):
        if glob.has_magic(part):
            above = str(Path(*parts[: index + (part == "**")]))
            passed |= {Path(name) for name in glob.iglob(above, recursive=True)} or {Path(above)}
    return sorted(path for path in passed if path.is_dir() and not os.access(path, os.R_OK))


def _known(paths: Iterable[Path]) -> list[Path | int]:
    """The images and videos among ``paths``, by name."""
    return sorted(path for path in paths if path.suffix.lower() in IMAGES | VIDEOS and path.is_file())


def _shortened(name: str) -> str:
    """A name's beginning that is short enough for all files that are made from it."""
    while len(os.fsencode(name)) > _LONGEST:
        name = name[:-1]
    return name


def _named(found: Iterable[Path | int]) -> Iterator[Source]:
    """Each with a name for its results, a long one's beginning; the second of a name is called name-2.

    So is one whose overlay would take the name of another's picture of belief maps.
    """
    seen: Counter[str] = Counter()
    taken = {"coco"}  # the file of all images is called so
    owners = set()  # whose pictures of belief maps may be called as something that is taken
    for what in found:
        stem = f"camera{what}" if isinstance(what, int) else _shortened(what.stem)
        name = stem
        while name in taken or name in owners or _GRID.sub("", name) in taken:
            seen[stem] += 1
            name = f"{stem}-{seen[stem] + 1}"
        taken.add(name)
        owners.add(_GRID.sub("", name))
        yield Source(what, name)
