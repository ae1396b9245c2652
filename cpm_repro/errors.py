"""The two kinds of failure a user can meet, told apart by exit code."""

from __future__ import annotations


class UserError(Exception):
    """The user's mistake: one line that names the file or thing, what was wanted and what was got.

    The ``cpm`` command prints the message without a traceback and exits with ``exit_code``.
    """

    exit_code = 2


class EnvironmentFailure(UserError):
    """The machine's state, not the user's input (a full disk, a read-only folder): one line, exit code 1."""

    exit_code = 1
