"""How large the gradient is in every layer, over the course of a run.

The paper's evidence that losses at every stage keep early layers learning (section 3.3) is a histogram of
gradient magnitudes per layer, with and without them. This records those histograms, with mean, variance and
the share of exact zeros, so that nothing of the gradients themselves has to be kept.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cpm_repro.errors import EnvironmentFailure, UserError
from cpm_repro.files import atomic_write, parse_json
from cpm_repro.model import PoseMachine

DECADES = (-12, 4)
BINS_PER_DECADE = 4
EDGES = np.linspace(*DECADES, (DECADES[1] - DECADES[0]) * BINS_PER_DECADE + 1)
"""log10 of the histograms' edges; what is smaller or larger is counted in the first or last bin."""


@dataclass(frozen=True)
class LayerGradient:
    """The gradient of one layer's weight at one update, in the objective's own units (spec `training.md`)."""

    mean: float  # of the magnitude
    variance: float  # of the signed values
    zero: float  # share that is exactly zero
    histogram: list[int]  # counts of log10 of the magnitudes that are not zero, between EDGES


def measure(gradient: Tensor) -> LayerGradient:
    """Statistics of a gradient tensor of any shape and float type.

    Raises:
        ValueError: an empty tensor.
    """
    values = gradient.detach().double().flatten().cpu()
    if not len(values):
        raise ValueError("gradient: wanted at least one value, got none")
    size = values.abs()
    some = size[size > 0].log10().clamp(*DECADES).numpy()
    counts, _ = np.histogram(some, bins=EDGES)
    return LayerGradient(
        mean=float(size.mean()),
        variance=float(values.var(unbiased=False)),
        zero=float((size == 0).double().mean()),
        histogram=counts.tolist(),
    )


class GradientRecorder:
    """Appends one line per measured update to ``gradients.jsonl`` of a run folder.

    Args:
        path: the file.
        every: updates between two measurements; the first update is measured.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every

    @torch.no_grad()
    def record(self, iteration: int, net: PoseMachine) -> None:
        """Measure the weights' gradients that update number ``iteration`` (0-based) is about to use.

        Frozen layers have none and are left out.
        """
        if iteration % self.every:
            return
        layers = {
            name.removesuffix(".weight"): asdict(measure(weight.grad))
            for name, weight in net.named_parameters()
            if name.endswith(".weight") and weight.grad is not None
        }
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"iteration": iteration, "layers": layers}) + "\n")
        except OSError as error:
            raise EnvironmentFailure(f"cannot write {self.path}: {error.strerror or error}") from error

    def rewind(self, iteration: int) -> None:
        """Forget measurements of update ``iteration`` and later: the resumed run makes them again."""
        if self.path.exists():
            kept = [record for record in _lines(self.path) if record["iteration"] < iteration]
            with atomic_write(self.path, "w") as file:
                file.writelines(json.dumps(record) + "\n" for record in kept)


@dataclass(frozen=True)
class GradientHistory:
    """What a run recorded: T measurements of L layers, in the network's order."""

    iterations: np.ndarray  # (T,)
    layers: tuple[str, ...]
    mean: np.ndarray  # (T, L) magnitude
    variance: np.ndarray  # (T, L)
    zero: np.ndarray  # (T, L) share
    histogram: np.ndarray  # (T, L, bins)


def read_gradients(path: Path) -> GradientHistory:
    """The measurements of ``gradients.jsonl`` that have all the layers of the first one.

    Raises:
        UserError: no such file, or nothing in it.
    """
    records = _lines(path) if path.is_file() else []
    if not records:
        raise UserError(f"{path}: no gradients were recorded (cpm train --set record_gradients=10)")
    layers = tuple(records[0]["layers"])
    records = [record for record in records if tuple(record["layers"]) == layers]
    table = {
        key: np.array([[record["layers"][layer][key] for layer in layers] for record in records])
        for key in ("mean", "variance", "zero", "histogram")
    }
    return GradientHistory(np.array([record["iteration"] for record in records]), layers, **table)


def _lines(path: Path) -> list[dict[str, Any]]:
    """All whole records; a line cut short by a kill ends the file."""
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            records.append(parse_json(line))
        except ValueError:
            break
    return records
