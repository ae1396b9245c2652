"""Writing files so that nothing finished is ever lost and nothing half-written is taken for whole."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from cpm_repro.errors import EnvironmentFailure, UserError


@contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary neighbour of ``path`` for writing; sync it and rename it onto ``path`` on success.

    If the body raises, the temporary file is removed and an older ``path`` stays as it was. Missing
    parent folders are made.

    Raises:
        EnvironmentFailure: the folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = unfinished_file(path)
        # A file name that is no UTF-8 is written escaped; JSON reads the escapes back.
        encoding, errors = (None, None) if "b" in mode else ("utf-8", "backslashreplace")
        with os.fdopen(handle, mode, encoding=encoding, errors=errors) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        raise EnvironmentFailure(f"cannot write {path}: {_reason(error, path.parent)}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def unfinished_file(path: Path, ending: str = ".tmp") -> tuple[int, Path]:
    """A new empty file beside ``path``, open for reading and writing, with the permissions of any new file.

    The system applies the process's mask to them: to ask for the mask is to set it for a moment, for the
    files of all threads.

    Raises:
        OSError: it cannot be made.
    """
    while True:
        temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}{ending}"
        with suppress(FileExistsError):
            return os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), temporary


def make_folder(path: Path) -> None:
    """Make a folder, and those it lies in, where it is not there.

    Raises:
        EnvironmentFailure: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFailure(f"cannot make {path}: {_reason(error, path)}") from error


def _reason(error: OSError, folder: Path) -> object:
    """Why something cannot be written in ``folder``."""
    if isinstance(error, FileExistsError | NotADirectoryError):  # a file where a folder is wanted
        return f"{next(place for place in (folder, *folder.parents) if place.exists())} is no folder"
    return error.strerror or error


def remove_unfinished(folder: str | Path) -> None:
    """Delete what :func:`atomic_write` left in ``folder`` when it was killed. Nobody may be writing there."""
    for temporary in Path(folder).glob(".*.tmp"):
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented UTF-8 JSON, atomically. NaN and infinities are no JSON and are refused."""
    with atomic_write(path, "w") as file:
        json.dump(value, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable where the platform can (a folder cannot be opened on Windows)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_json(path: str | Path) -> Any:
    """Parse a JSON file that anybody may have written.

    Raises:
        UserError: it is missing, no JSON, or nested deeper than anything sensible.
    """
    try:
        return parse_json(Path(path).read_bytes())  # of bytes a byte order mark is understood
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path}: expected JSON: {error}") from error


def json_head(path: str | Path) -> str:
    """The beginning of a JSON file, to tell what it holds unparsed; "" of one that cannot be read."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            return file.read(200).lstrip()
    except OSError:
        return ""


def parse_json(text: str | bytes) -> Any:
    """Parse JSON text that anybody may have written.

    Raises:
        ValueError: no JSON, or nested deeper than anything sensible.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def inside(root: Path, relative: str) -> Path:
    """``root / relative``, refused when it would leave ``root`` (also through a symbolic link).

    Raises:
        UserError: the path is absolute or leads outside.
    """
    joined = root / relative
    try:
        leaves = os.path.isabs(relative) or not joined.resolve().is_relative_to(root.resolve())
    except (ValueError, OSError, RuntimeError) as error:  # a zero byte, a circle of links
        raise UserError(f"{relative}: expected a path inside {root}: {error}") from error
    if leaves:
        linked = os.path.normpath(root / relative).startswith(os.path.join(os.path.normpath(root), ""))
        what = "a symbolic link" if linked else "one"
        raise UserError(f"{relative}: expected a path inside {root}, got {what} that leaves it")
    return joined
