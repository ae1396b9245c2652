"""A caller's value for an error's message: one short line, whatever it is."""

from __future__ import annotations

import reprlib
from typing import Any

from cpm_repro.errors import one_line


class _Short(reprlib.Repr):
    """Python's abbreviations; long integers by their length, arrays and tensors by their shape."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlist = self.maxtuple = self.maxstring = self.maxother = 60

    def repr_int(self, x: int, level: int) -> str:  # noqa: ARG002
        # Python does not write integers of thousands of digits.
        return f"an integer of {x.bit_length()} bits" if x.bit_length() > 64 else repr(x)

    def repr_instance(self, x: Any, level: int) -> str:
        try:
            shape = tuple(x.shape)
        except Exception:  # it has none, or, as nested tensors, none that can be asked for
            return super().repr_instance(x, level)
        return f"{type(x).__name__} of shape {shape}" if shape else super().repr_instance(x, level)

    repr_array = repr_instance  # of the standard library's array.array


_SHORT = _Short()


def shown(value: object) -> str:
    """``value`` in one line of at most 200 characters or a few more."""
    text = one_line(_SHORT.repr(value))
    return text if len(text) <= 200 else text[:200] + "..."
