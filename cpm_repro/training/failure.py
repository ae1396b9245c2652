"""What is kept of an update whose loss, gradient or weights are not finite, so that it can be looked into."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from cpm_repro.data import Batch
from cpm_repro.files import atomic_write, write_json


def save_failure(
    folder: Path,
    what: str,
    iteration: int,
    batch: Batch,
    losses: Sequence[float],
    net: nn.Module,
    rates: Mapping[str, float],
) -> Path:
    """Write ``iteration_N.pt`` (the batch, plain tensors) and ``iteration_N.json`` (all the numbers).

    Args:
        folder: made if it is not there.
        what: is not finite: loss, gradient or weights.
        iteration: 0-based number of the update that was not made; of weights, of the last that was.
        batch: its people.
        losses: of every stage; as words in the JSON where they are not finite, which JSON cannot say.
        net: with the gradients in place.
        rates: the learning rates, by the names that the JSON has them under.

    Returns:
        Path of the JSON.
    """
    tensors = {
        "image": batch.image,
        "center": batch.center,
        "joints": batch.joints,
        "visible": batch.visible,
        "matrix": batch.matrix,
    }
    buffer = io.BytesIO()
    torch.save({name: value.cpu() for name, value in tensors.items() if value is not None}, buffer)
    path = folder / f"iteration_{iteration}.json"
    with atomic_write(path.with_suffix(".pt")) as file:
        file.write(buffer.getbuffer())
    norms = {name: weight.grad.norm() for name, weight in net.named_parameters() if weight.grad is not None}
    write_json(
        path,
        {
            "not_finite": what,
            "iteration": iteration,
            **rates,
            "loss_per_stage": [_sayable(value) for value in losses],
            "gradient_norm": {name: _sayable(float(value)) for name, value in norms.items()},
            "weight_norm": {name: _sayable(float(w.detach().norm())) for name, w in net.named_parameters()},
            "batch": path.with_suffix(".pt").name,
        },
    )
    return path


def _sayable(value: float) -> float | str:
    """``value`` itself, or "nan", "inf", "-inf"."""
    return value if abs(value) < float("inf") else str(value)
