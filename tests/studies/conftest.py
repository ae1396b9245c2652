"""Most analyses are asked for their verdict alone; those that ask for ``drawn`` get pictures too."""

import sys

import pytest


@pytest.fixture
def drawn():
    """Pictures are really drawn."""


@pytest.fixture(autouse=True)
def _undrawn(request, monkeypatch):
    if "drawn" in request.fixturenames:
        return
    for name, module in list(sys.modules.items()):
        if name.startswith("cpm_repro.studies.") and hasattr(module, "save_figure"):
            monkeypatch.setattr(module, "save_figure", lambda _, path: (path, path))
