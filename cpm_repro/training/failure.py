"""What is kept of an update whose loss, gradient or weights are not finite, so that it can be looked into."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cpm_repro.data import Batch
from cpm_repro.errors import UserError
from cpm_repro.files import atomic_write, write_json


@dataclass(frozen=True)
class LastUpdate:
    """The last update, for when the weights turn out not to have survived it."""

    batch: Batch
    iteration: int  # 0-based
    losses: Sequence[float]  # of every stage, before it
    rates: Mapping[str, float]  # learning rates by name


def largest_weight(net: nn.Module) -> Tensor:
    """() NaN or infinite if any weight is; nothing is read from the device."""
    return torch.nn.utils.get_total_norm(net.parameters(), math.inf)


def lost_weights(
    folder: Path,
    last: LastUpdate | None,
    net: nn.Module,
    kept: str,
    lower: Callable[[Mapping[str, float]], str],
) -> UserError:
    """What to stop a run with whose weights are not finite; the last update is saved as by save_failure.

    They are looked at only before they are scored or saved, since that waits for the device: an update
    before the last may have ruined them, where the losses did not show it.

    Args:
        folder: as in :func:`save_failure`.
        last: None: no update was made yet.
        net: with the last update's gradients in place.
        kept: what of the run there is to go on from.
        lower: the advice to lower the rates.
    """
    if last is None:
        return UserError(f"the weights are not finite before any update was made; {kept}")
    saved = save_failure(folder, "weights", last.iteration, last.batch, last.losses, net, last.rates)
    return UserError(
        f"the weights are no longer finite after iteration {last.iteration + 1}: {lower(last.rates)}; "
        f"{kept}; the last update's batch, losses (before it) and gradient norms are in {saved}"
    )


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
