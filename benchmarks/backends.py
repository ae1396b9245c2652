"""Back ends that are measured besides the one that is chosen."""

from __future__ import annotations

from cpm_repro import ops

CUPY = tuple(name for name in ops.available_backends() if name == "cupy")
"""The CuPy back end, where there is one."""
