"""Convolutional Pose Machines (Wei, Ramakrishna, Kanade, Sheikh, CVPR 2016), reproduced in PyTorch.

The public names below are loaded on first use, so that importing the package stays cheap::

    import cpm_repro as cpm
    net = cpm.build("mpii_6stage")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cpm_repro import caffe, ops
    from cpm_repro.evaluation import evaluate
    from cpm_repro.inference.detector import PersonDetector
    from cpm_repro.inference.estimator import PoseEstimator
    from cpm_repro.inference.procedure import BenchmarkProcedure
    from cpm_repro.inference.weights import load
    from cpm_repro.model import build
    from cpm_repro.ops import imresize
    from cpm_repro.skeleton import Skeleton, Visibility

__version__ = "0.1.0"

_HOMES = {
    "BenchmarkProcedure": "cpm_repro.inference.procedure",
    "PersonDetector": "cpm_repro.inference.detector",
    "PoseEstimator": "cpm_repro.inference.estimator",
    "Skeleton": "cpm_repro.skeleton",
    "Visibility": "cpm_repro.skeleton",
    "build": "cpm_repro.model",
    "evaluate": "cpm_repro.evaluation",
    "imresize": "cpm_repro.ops",
    "load": "cpm_repro.inference.weights",
}

__all__ = [
    "BenchmarkProcedure",
    "PersonDetector",
    "PoseEstimator",
    "Skeleton",
    "Visibility",
    "build",
    "caffe",
    "evaluate",
    "imresize",
    "load",
    "ops",
]


def __getattr__(name: str) -> Any:
    if name in ("caffe", "ops"):
        return importlib.import_module(f"cpm_repro.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cpm_repro' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
