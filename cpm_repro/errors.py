"""The two kinds of failure a user can meet, told apart by exit code."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def one_line(text: object) -> str:
    """Text without line breaks and terminal codes, which names in foreign files may hold."""
    return _BREAKS.sub(" ", str(text))


def first_line(error: BaseException) -> str:
    """The beginning of what a library's error says, for our own sentence; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


class UserError(Exception):
    """The user's mistake: one line that names the file or thing, what was wanted and what was got.

    The ``cpm`` command prints the message without a traceback and exits with ``exit_code``.
    """

    exit_code = 2

    def __str__(self) -> str:
        return one_line(super().__str__())


class EnvironmentFailure(UserError):
    """The machine's state, not the user's input (a full disk, a read-only folder): one line, exit code 1."""

    exit_code = 1


class BackendError(ValueError):
    """A back end that was asked for cannot run: in a command the user's mistake, by CPM_BACKEND.

    No UserError, which may concern one image or one person, and then the others go on.
    """

    exit_code = 2


@contextmanager
def told_in_one_line(program: str) -> Iterator[None]:
    """For scripts: a user's mistake ends them as it ends the ``cpm`` command, not in a traceback."""
    try:
        yield
    except (UserError, BackendError) as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
