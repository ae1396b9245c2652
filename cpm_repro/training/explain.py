"""What a preset is, and where it leaves the release."""

from __future__ import annotations

from cpm_repro.config import preset


def explain(name: str) -> str:
    """The preset called ``name``, printed."""
    return str(preset(name))
