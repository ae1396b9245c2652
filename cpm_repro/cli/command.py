"""The whole command: its parser, one call, and what it says when that fails."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cpm_repro.cli.data import add_data
from cpm_repro.cli.machine import add_bench, add_doctor
from cpm_repro.cli.networks import add_convert, add_export, add_proto
from cpm_repro.cli.parser import Parser
from cpm_repro.cli.pictures import add_predict, add_viz
from cpm_repro.cli.scores import add_checklist, add_eval
from cpm_repro.cli.training import add_demo, add_study, add_train
from cpm_repro.config import unknown
from cpm_repro.errors import BackendError, UserError, one_line
from cpm_repro.packages import unusable_package
from cpm_repro.paths import shown

_NOT_ALLOWED = {errno.ENAMETOOLONG, errno.EACCES, errno.EPERM}
"""What a user may not do, or call a file, wherever that comes up: closed folders, names too long."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""A disk, a quota or a limit that leaves no room for more: `cpm ... > a_log` on a full disk."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code is 0, 2 for the user's mistake, 1 for a failure of the machine."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser, verbs = command_parser()
    if arguments and not arguments[0].startswith("-") and arguments[0] not in verbs:
        parser.error(unknown("verb", arguments[0], list(verbs)))
    options, rest = parser.parse_known_args(arguments)
    if rest:
        getattr(options, "parser", verbs[options.verb]).refuse_unknown(rest)
    try:
        with _warnings_in_a_line(options.verb):
            options.run(options)
        sys.stdout.flush()
    except (UserError, BackendError) as error:
        print(f"cpm {options.verb}: error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `cpm ... | head` has read enough; nothing is left to tell
        _drop_output()
        return 141  # as the shell calls the end by SIGPIPE
    except OSError as error:
        if error.errno in _FULL and error.filename is None:
            print(f"cpm {options.verb}: error: cannot write: {error.strerror}", file=sys.stderr)
            _drop_output()
            return 1
        if error.errno not in _NOT_ALLOWED:
            raise
        name = one_line(shown(error.filename))
        print(f"cpm {options.verb}: error: {name}: {error.strerror}", file=sys.stderr)
        return 2
    except ImportError as error:
        if (said := unusable_package(error)) is None:
            raise
        print(f"cpm {options.verb}: error: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 0


def _drop_output() -> None:
    """Forget what standard output does not take any more: Python would try, and fail, once more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _warnings_in_a_line(verb: str) -> Iterator[None]:
    """Our own warnings are for users: without the place in the code that gave them."""
    usual = warnings.formatwarning

    def format_ours(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if category.__module__.startswith("cpm_repro"):
            return f"cpm {verb}: warning: {one_line(message)}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = format_ours
    try:
        yield
    finally:
        warnings.formatwarning = usual


def command_parser() -> tuple[Parser, dict[str, Parser]]:
    """The parser of the whole command, and that of each verb by its name."""
    parser = Parser(prog="cpm", description="Convolutional Pose Machines, reproduced.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    for add in (
        add_demo, add_train, add_eval, add_predict, add_viz, add_data, add_convert, add_proto,
        add_export, add_checklist, add_study, add_bench, add_doctor,
    ):  # fmt: skip
        add(verbs)
    return parser, dict(verbs.choices)
