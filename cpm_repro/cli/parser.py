"""What the parsers of all verbs share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from cpm_repro.config import architecture, unknown
from cpm_repro.errors import UserError
from cpm_repro.paths import what_is_at


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line and name the nearest known thing."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        options = [action for action in self._actions if action.option_strings and action.nargs == "+"]
        if re.match("the following arguments are required: [^-]", message) and options:
            greedy = " and ".join(action.option_strings[0] for action in options)
            message += f"; what follows {greedy} is theirs: name it before them"
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")

    def refuse_unknown(self, arguments: Sequence[str]) -> None:
        """Report the first argument nobody asked for."""
        flag = next((item for item in arguments if item.startswith("-")), None)
        if flag is None:
            self.error(f"unexpected argument {arguments[0]!r}")
        options = [name for name in self._option_string_actions if name.startswith("--")]
        self.error(unknown("option", flag.split("=")[0], options))


def add_verb(verbs: Any, name: str, about: str, example: str) -> Parser:
    """A verb, or an action of one, whose help ends with an example."""
    sub: Parser = verbs.add_parser(
        name,
        help=about,
        description=about,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return sub


def at_least(least: int) -> Callable[[str], int]:
    """The type of an option that counts: a whole number, ``least`` or more."""

    def whole(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"wanted a whole number of at least {least}, got {text}")
        return value

    whole.__name__ = "int"  # as argparse calls it where the text is no number
    return whole


def add_device(sub: Parser) -> None:
    """Where the network runs."""
    sub.add_argument("--device", help="for instance cpu or cuda:1 (default: a GPU if there is one)")


def add_network(sub: Parser) -> None:
    """The options that name a network where a file does not."""
    sub.add_argument("--arch", help="architecture, where the file does not say")
    add_numbers(sub)


def add_numbers(sub: Parser, stages: str = "number of stages (default: the architecture's own)") -> None:
    """The numbers in which a network may differ from the released one."""
    sub.add_argument("--stages", type=int, help=stages)
    sub.add_argument("--parts", type=int, help="number of body parts, without the background")
    sub.add_argument("--width", type=float, help="hidden channels relative to the released network")


def refuse_missing(wanted: str, *paths: str | Path | None) -> None:
    """Refuse paths at which there is nothing before anything slow is imported: torch alone takes seconds.

    What else may be wrong with them, their readers say. None is a path that was not given.

    Raises:
        UserError: nothing there, or nobody can tell.
    """
    for path in paths:
        if path is not None and not what_is_at(path):
            raise UserError(f"{path}: wanted {wanted}, there is no such file or folder")


def refuse_missing_data(spec: str | None) -> None:
    """The same for what `cpm_repro.data.open_dataset` reads: a path, several mixed, or synthetic people."""
    if spec is not None and spec != "synthetic" and not {"+", "@"} & set(spec):
        refuse_missing("a data set", spec)


def refuse_unknown_architecture(name: str | None) -> None:
    """The same for a network's name; None is one that was not given."""
    if name is not None:
        architecture(name)
