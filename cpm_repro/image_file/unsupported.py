"""Pictures that are whole and of a kind that is not read."""

from __future__ import annotations


class Unsupported(Exception):
    """A kind of picture that its header tells and that is not read; the text is its name, "an AVIF film"."""
