"""Caffe's weight fillers (spec `training.md`, `caffe_fields.json`)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from cpm_repro.caffe.schema import new
from cpm_repro.errors import UserError

KINDS = ("constant", "gaussian", "uniform", "positive_unitball", "xavier", "msra", "bilinear")


def constant(value: float) -> Any:
    """FillerParameter of a constant."""
    return new("FillerParameter", type="constant", value=value)


@torch.no_grad()
def fill(tensor: Tensor, filler: Any, generator: torch.Generator | None = None) -> None:
    """Fill ``tensor``, a blob in Caffe's layout (out, in, kh, kw), in place as a FillerParameter says.

    fan_in is all but the first axis, fan_out all but the second, also for inner products, as in Caffe.

    Raises:
        UserError: a filler kind that is not one of :data:`KINDS`, or numbers that describe no distribution.
    """
    numbers = (filler.value, filler.mean, filler.std, filler.min, filler.max)
    flat = filler.type == "gaussian" and filler.std <= 0
    if not all(map(math.isfinite, numbers)) or flat or filler.min > filler.max:
        given = " ".join(str(filler).split())
        raise UserError(f"filler: wanted finite numbers, std > 0 and min <= max, got {given}")
    if filler.sparse < -1 or (filler.sparse != -1 and filler.type != "gaussian"):
        raise UserError(f"filler: wanted sparse >= 0, and of a gaussian, got {filler.type} {filler.sparse}")
    if filler.type == "constant":
        tensor.fill_(filler.value)
    elif filler.type == "gaussian":
        tensor.normal_(filler.mean, filler.std, generator=generator)
        if filler.sparse >= 0:  # about `sparse` inputs of each output stay non-zero
            keep = min(1.0, filler.sparse / max(1, tensor.shape[0]))
            tensor.mul_(torch.empty_like(tensor).bernoulli_(keep, generator=generator))
    elif filler.type == "uniform":
        tensor.uniform_(filler.min, filler.max, generator=generator)
    elif filler.type == "positive_unitball":  # what makes one output sums to 1
        tensor.uniform_(0, 1, generator=generator)
        rows = tensor.view(tensor.shape[0] if tensor.ndim else 1, -1)
        rows.div_(rows.sum(1, keepdim=True))
    elif filler.type == "xavier":
        bound = math.sqrt(3 / _fan(tensor, filler))
        tensor.uniform_(-bound, bound, generator=generator)
    elif filler.type == "msra":
        tensor.normal_(0, math.sqrt(2 / _fan(tensor, filler)), generator=generator)
    elif filler.type == "bilinear":
        _bilinear(tensor)
    else:
        raise UserError(f"unknown filler {filler.type!r}: wanted one of {', '.join(KINDS)}")


def _fan(tensor: Tensor, filler: Any) -> float:
    """The count that xavier and msra normalise by."""
    fan_in = tensor.numel() / max(1, tensor.shape[0])
    fan_out = tensor.numel() / max(1, tensor.shape[1] if tensor.ndim > 1 else tensor.shape[0])
    return max(1.0, (fan_in, fan_out, (fan_in + fan_out) / 2)[filler.variance_norm])


def _bilinear(tensor: Tensor) -> None:
    """The same triangle kernel in every (out, in) slice: a Deconvolution then enlarges bilinearly."""
    if tensor.ndim != 4 or tensor.shape[2] != tensor.shape[3]:
        raise UserError(f"bilinear filler: wanted a square 4-axis blob, got shape {tuple(tensor.shape)}")
    side = tensor.shape[3]
    factor = math.ceil(side / 2)
    middle = (2 * factor - 1 - factor % 2) / (2 * factor)
    ramp = 1 - (torch.arange(side, dtype=tensor.dtype, device=tensor.device) / factor - middle).abs()
    tensor.copy_((ramp[:, None] * ramp).expand_as(tensor))
