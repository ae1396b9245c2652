"""Scripts of benchmarks/ as modules."""

import importlib
import sys
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks"


@contextmanager
def script(name):
    """The script's module, new; it and what it imports from beside it are forgotten afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))
        beside = {path.stem for path in FOLDER.glob("*.py")}
        for module in (set(sys.modules) - before) & beside:
            del sys.modules[module]
