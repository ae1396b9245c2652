"""What lies at a path that a user named: asked here alone, so that a closed folder is not called empty."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from cpm_repro.errors import UserError

What = Literal["", "a file", "a folder", "something that is no ordinary file"]

PICTURES = (".png", ".jpg", ".jpeg")
"""Suffixes of a picture whose name the user chooses."""

_LONGEST_NAME = 1000


def what_is_at(path: str | Path) -> What:
    """What is there, in words for messages; "" where nothing is, or where no file can be called so.

    pathlib's own questions are no use for this: about a folder that is closed to the user they raise OSError
    in some versions of Python and say "nothing there" in others.

    Raises:
        UserError: nobody can tell: a folder on the way is closed to this user, the name is too long, or links
            lead in a circle.
    """
    try:
        mode = Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the name
        return ""
    except OSError as error:
        raise UserError(f"{shown(path)}: cannot be read: {error.strerror or error}") from error
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a file" if stat.S_ISREG(mode) else "something that is no ordinary file"


def wanted_file(path: str | Path, wanted: str) -> Path:
    """``path``, at which an ordinary file is; ``wanted`` names the kind of it ("a MATLAB file").

    Raises:
        UserError: something else or nothing is there, or nobody can tell.
    """
    found = what_is_at(path)
    if found != "a file":
        raise UserError(f"{path}: wanted {wanted}, got {found or 'nothing there'}")
    return Path(path)


def wanted_suffix(path: str | Path, suffixes: Iterable[str]) -> str:
    """The suffix of ``path`` in small letters.

    Raises:
        UserError: it is none of ``suffixes``.
    """
    suffix = Path(path).suffix.lower()
    known = list(suffixes)
    if suffix not in known:
        raise UserError(
            f"{path}: wanted a file called {', '.join(f'*{name}' for name in known[:-1])} or *{known[-1]}"
        )
    return suffix


def shown(path: object) -> str:
    """A path for a message: of one longer than any that is meant, the beginning."""
    name = str(path)
    return name if len(name) <= _LONGEST_NAME else f"{name[:60]}..."
