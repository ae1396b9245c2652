"""Third-party packages that are not there, or do not load: said in one line."""

from __future__ import annotations

import importlib
from typing import Any

from cpm_repro.errors import UserError, one_line

_LIBRARIES = (".so", ".pyd", ".dll", ".dylib")


def optional_module(name: str, extra: str, purpose: object) -> Any:
    """The module ``name`` of a package that only the extra ``extra`` brings along.

    Raises:
        UserError: it is not installed, or does not load; ``purpose`` is who needs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == name
        remedy = f"pip install 'cpm_repro[{extra}]'" if missing else f"it does not load: {one_line(error)}"
        raise UserError(f"{purpose} needs the package {name}: {remedy}") from error


def unusable_package(error: ImportError) -> str | None:
    """What to say of a failed import when the installation is at fault; None when our own code is.

    At fault are packages that are not installed, and compiled ones whose libraries do not load (OpenCV with
    windows on a machine without libGL is the usual case).
    """
    package = (error.name or "").split(".")[0]
    if package in ("", "cpm_repro"):
        return None
    if isinstance(error, ModuleNotFoundError):
        return f"the package {package} is not installed (cpm doctor says what is missing)"
    if (error.path or "").endswith(_LIBRARIES):
        return f"the package {package} does not load: {one_line(error)} (cpm doctor says what is there)"
    return None
