"""Reading nested MATLAB structs whose fields may be missing, empty or of unexpected kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.errors import UserError
from cpm_repro.matlab_file import load_matlab_file


def load_mat(path: str | Path, variable: str) -> Any:
    """The variable of a MATLAB file (version 7 or older), squeezed: structs as np.void or arrays of them.

    Raises:
        UserError: the file is missing, truncated, no MATLAB file, or has no such variable.
    """
    content = load_matlab_file(path, (variable,), squeeze_me=True)
    if variable not in content:
        raise UserError(f"{path}: expected a variable '{variable}', got none of that name")
    return content[variable]


def load_mat_array(path: str | Path, variable: str, dimensions: int) -> np.ndarray:
    """A numeric array of so many dimensions; squeezed ones of length 1 at the end are put back."""
    values = load_mat(path, variable)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu" or values.ndim > dimensions:
        raise UserError(
            f"{path}: expected '{variable}' to be a numeric array of {dimensions} axes, got another kind"
        )
    return values.reshape(values.shape + (1,) * (dimensions - values.ndim))


def member(struct: Any, name: str) -> Any:
    """Field ``name`` of one struct, None where it is absent or empty."""
    if not isinstance(struct, (np.void, np.ndarray)) or name not in (struct.dtype.names or ()):
        return None
    value = struct[name]
    if isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 0:
        value = value.item()
    return None if isinstance(value, np.ndarray) and value.size == 0 else value


def elements(value: Any) -> list[Any]:
    """A struct array as a list; one struct is a list of one, nothing an empty list."""
    if value is None:
        return []
    if isinstance(value, np.ndarray):
        return list(value.ravel()) if value.ndim else [value[()]]
    return [value]


def number(value: Any) -> float:
    """A scalar that may be a number, a string ('1') or empty: NaN when it is none."""
    if value is None:
        return float("nan")
    try:
        return float(np.asarray(value).ravel()[0])
    except (ValueError, TypeError, IndexError):
        return float("nan")


def numbers(value: Any) -> np.ndarray:
    """A numeric array as float64, an empty one when it is none."""
    array = np.asarray([] if value is None else value)
    return array.astype(float) if array.dtype.kind in "fiub" else np.zeros(0)


def text(value: Any) -> str:
    """A string, "" when it is none."""
    return value if isinstance(value, str) else ""
