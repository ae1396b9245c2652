"""Weights into a network by layer name, as Caffe does it (spec `training.md`, caffemodel)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cpm_repro.errors import UserError
from cpm_repro.model.pose_machine import PoseMachine

Blob = NDArray[Any] | Tensor
Weights = Mapping[str, Sequence[Blob]] | Mapping[str, Blob]
"""Layer name -> [weight, bias], or a state dict of ``<layer>.weight`` and ``<layer>.bias``."""


@dataclass(frozen=True)
class Mismatch:
    """A layer whose blobs are not of the network's shapes; ``str`` gives layer, wanted, got."""

    layer: str
    wanted: tuple[tuple[int, ...], ...]
    got: tuple[tuple[int, ...], ...]

    def __str__(self) -> str:
        def text(shapes: tuple[tuple[int, ...], ...]) -> str:
            return " ".join("x".join(map(str, shape)) or "scalar" for shape in shapes) or "no blobs"

        return f"{self.layer} wanted {text(self.wanted)}, got {text(self.got)}"


@dataclass(frozen=True)
class LoadReport:
    """What became of every layer: names in the network's order, ``ignored`` in the weights' order."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]  # in the network, not among the weights: left as they were
    mismatched: tuple[Mismatch, ...]  # of another shape: left as they were
    ignored: tuple[str, ...]  # among the weights, not in the network

    @property
    def complete(self) -> bool:
        """Whether every layer of the network got its weights."""
        return not self.missing and not self.mismatched

    def __str__(self) -> str:
        lines = [f"loaded {len(self.loaded)} layers: {', '.join(self.loaded) or 'none'}"]
        if self.missing:
            lines.append(f"not among the weights, left at their filler: {', '.join(self.missing)}")
        if self.mismatched:
            lines.append(f"of another shape, left at their filler: {'; '.join(map(str, self.mismatched))}")
        if self.ignored:
            lines.append(f"not in the network, ignored: {', '.join(self.ignored)}")
        return "\n".join(lines)


@torch.no_grad()
def load_by_name(
    net: PoseMachine, weights: Weights, *, strict: bool = True, source: str = "weights"
) -> LoadReport:
    """Copy weights into the layers of the same name; nothing is copied when it raises.

    Args:
        net: filled in place; layers that get nothing stay as they are.
        weights: layer name -> [weight (out, in, kh, kw), bias (out,)] as a caffemodel reader gives them, or a
            state dict. Layers without blobs (data, losses, dropout) do not count. A legacy bias of shape
            (1, 1, 1, out) is taken as (out,).
        strict: True: layers of another shape are an error, all of them listed, as in Caffe. False, for
            fine-tuning: they stay at their filler and the report lists them.
        source: what to call the weights in the message, usually the file.

    As in Caffe, layers missing among the weights are no error here: see ``LoadReport.complete``.

    Raises:
        UserError: the weights are not of either form, or (strict) some are of another shape.
    """
    given = layers_of(weights, source)
    loaded, missing, mismatched = [], [], []
    copies: list[tuple[nn.Parameter, Blob]] = []
    for layer in net.description.convolutions:
        module = net.layer(layer.name)
        targets = (module.weight, module.bias)
        if layer.name not in given:
            missing.append(layer.name)
            continue
        blobs = given[layer.name]
        wanted = tuple(tuple(target.shape) for target in targets)
        got = tuple(_natural_shape(blob, place) for place, blob in enumerate(blobs))
        if wanted == got:
            loaded.append(layer.name)
            copies += zip(targets, blobs, strict=True)
        else:
            mismatched.append(Mismatch(layer.name, wanted, got))
    if mismatched and strict:
        listed = "; ".join(map(str, mismatched))
        raise UserError(f"{source} do not fit {net.arch} with {net.parts} parts: {listed}")
    for target, blob in copies:
        _copy(target, blob)
    own = {layer.name for layer in net.description.convolutions}
    ignored = tuple(name for name in given if name not in own)
    return LoadReport(tuple(loaded), tuple(missing), tuple(mismatched), ignored)


def layers_of(weights: Weights, source: str = "weights") -> dict[str, list[Blob]]:
    """Layer name -> [weight, bias] from either form of :data:`Weights`, without layers that have no blobs.

    Raises:
        UserError: a state dict's key is not ``<layer>.weight`` or ``<layer>.bias``, or a value is no array.
    """
    layers: dict[str, list[Blob]] = {}
    for key, value in weights.items():
        if isinstance(value, (Tensor, np.ndarray)):
            layer, _, kind = key.rpartition(".")
            if kind not in ("weight", "bias") or not layer:
                raise UserError(f"{source}: wanted keys <layer>.weight and <layer>.bias, got {key!r}")
            if kind == "weight":
                layers.setdefault(layer, []).insert(0, value)
            else:
                layers.setdefault(layer, []).append(value)
            continue
        blobs = list(value) if isinstance(value, Sequence) else [value]
        if not all(isinstance(blob, (Tensor, np.ndarray)) for blob in blobs):
            raise UserError(
                f"{source}: wanted arrays or tensors for layer {key!r}, got {type(value).__name__}"
            )
        if blobs:
            layers[key] = blobs
    return layers


def _natural_shape(blob: Blob, place: int) -> tuple[int, ...]:
    """The blob's shape; that of a bias (``place`` 1) without the leading ones of the legacy 4-D form."""
    shape = tuple(blob.shape)
    return shape[3:] if place == 1 and len(shape) == 4 and shape[:3] == (1, 1, 1) else shape


def _copy(target: nn.Parameter, blob: Blob) -> None:
    """Fill ``target`` from ``blob``, which may be a read-only memory map, without a copy in between."""
    if isinstance(blob, Tensor):
        target.copy_(blob.reshape(target.shape))
    elif target.device.type == "cpu" and target.dtype == torch.float32:
        np.copyto(target.detach().numpy(), blob.reshape(tuple(target.shape)), casting="unsafe")
        torch.autograd.graph.increment_version(target)  # NumPy tells nobody that it wrote
    else:
        target.copy_(torch.tensor(blob, device=target.device).reshape(target.shape))
