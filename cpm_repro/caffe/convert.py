"""Weights from one file format to another, with a check that runs both files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cpm_repro.caffe.generate import deploy_message
from cpm_repro.caffe.net import CaffeNet
from cpm_repro.caffe.weight_files import (
    Network,
    WeightFile,
    by_layer,
    kind_of,
    numbers_of,
    read_weight_file,
    write_weight_file,
)
from cpm_repro.errors import UserError
from cpm_repro.model import load_by_name
from cpm_repro.weight_paths import weight_file_of

CHECK_SIDE = 64
"""Side of the square input that a check runs, pixels: accepted by every network, small enough for a CPU."""


@dataclass(frozen=True)
class Difference:
    """A layer's largest absolute difference between the two files' nets, and the range of its values."""

    layer: str
    largest: float
    range: float


@dataclass(frozen=True)
class Conversion:
    """What :func:`convert` did; ``differences`` is None where no check was asked for."""

    network: Network | None
    layers: int
    differences: list[Difference] | None
    lost: bool = (
        False  # whether parts' names, limbs and crop were in the source and have no place in the target
    )

    def __str__(self) -> str:
        name = f"{self.network.arch}, {self.network.stages} stages" if self.network else "an unknown network"
        lines = [f"{self.layers} layers of {name}"]
        if self.lost:
            lines.append(
                "a caffemodel has no place for the parts' names, limbs and crop; a .safetensors keeps them"
            )
        for row in self.differences or ():
            lines.append(
                f"{row.layer:<20} largest difference {row.largest:.2e} (values span {row.range:.2e})"
            )
        if self.differences:
            # What is not a number is worse than any: max alone would pass over it.
            worst = max(self.differences, key=lambda row: (math.isnan(row.largest), row.largest))
            lines.append(f"largest of all: {worst.largest:.2e} in {worst.layer}")
        return "\n".join(lines)


def convert(
    source: str | Path,
    target: str | Path,
    *,
    arch: str | None = None,
    stages: int | None = None,
    parts: int | None = None,
    width: float | None = None,
    features: str | None = None,
    refine: str | None = None,
    check: bool = False,
) -> Conversion:
    """Convert between .caffemodel, .safetensors and our checkpoints (.pt), by the files' suffixes.

    Of a run folder the best checkpoint is the source.

    The network is what ``arch`` (with ``stages``, ``parts``, ``width``, ``features``, ``refine``) says, else
    what the file says, else the one whose parameters have exactly the file's names and shapes. For a known
    network, layers it does not have are left out and all its layers must be there; weights of an unknown
    network pass through unchanged.

    With ``check`` both files are read and run on one fixed random input: the source in the net built from our
    prototxt (:class:`~cpm_repro.caffe.net.CaffeNet`), the target in our own module, layer by layer.

    Raises:
        UserError: a file is not readable, weights do not fit the network (all are listed), or a check or a
            checkpoint is asked for and the network is not known.
        EnvironmentFailure: the target cannot be written.
    """
    given = read_weight_file(weight_file_of(source))
    network = choose_network(given, arch, stages, parts, width, features, refine)
    weights = given.weights if network is None else fitting(given, network)
    if check and network is None:
        raise UserError(f"{source}: to check weights of an unknown network, say which: arch=")
    try:
        layers = len(by_layer(weights))
    except UserError as error:
        raise UserError(f"{given.path}: {error}") from error
    write_weight_file(target, weights, network, given.about)
    differences = None
    if check and network is not None:
        differences = compare(weights, read_weight_file(target).weights, network)
    lost = given.about is not None and kind_of(Path(target)) == "caffemodel"
    return Conversion(network, layers, differences, lost)


def fitting(given: WeightFile, network: Network) -> dict[str, Tensor]:
    """The weights of ``network`` out of a file, in the network's order and shapes; other layers are left out.

    Raises:
        UserError: weights that are missing, too many, or of another shape, all of them listed; of a file that
            says that it is of another architecture, the first.
    """
    weights, wrong = {}, []
    shapes = network.describe().parameter_shapes()
    for key, shape in shapes.items():
        value = given.weights.get(key)
        if value is None:
            wrong.append(f"{key}: wanted {list(shape)}, got nothing")
        elif tuple(value.shape) != shape and tuple(value.shape) != (1, 1, 1, *shape):
            wrong.append(f"{key}: wanted {list(shape)}, got {list(value.shape)}")
        else:
            weights[key] = value.reshape(shape)
    own = {key.rpartition(".")[0] for key in shapes}
    for key, value in given.weights.items():
        if key not in shapes and key.rpartition(".")[0] in own:
            wrong.append(f"{key}: wanted nothing, got {list(value.shape)}")
    if wrong:
        stated = given.network.arch if given.network else network.arch
        if stated != network.arch:
            more = f"; and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            raise UserError(
                f"{given.path}: wanted weights of {network.arch}, got those of {stated} ({wrong[0]}{more})"
            )
        raise UserError(f"{given.path} does not fit {network.arch}: {'; '.join(wrong)}")
    return weights


@torch.no_grad()
def compare(source: Mapping[str, Tensor], target: Mapping[str, Tensor], network: Network) -> list[Difference]:
    """Largest difference of every convolution's output: ``source`` in CaffeNet, ``target`` in our module."""
    description = network.describe()
    generator = torch.Generator().manual_seed(0)
    channels = description.input_shape[1]
    shape = (1, channels, CHECK_SIDE, CHECK_SIDE)
    data = torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu") - 0.5
    caffe = CaffeNet(deploy_message(description), seed=0).float()
    caffe.load(by_layer(source))
    ours = network.build().eval()
    load_by_name(ours, dict(target))
    names = [layer.name for layer in description.convolutions]
    left = _record(caffe, names, lambda: caffe(**{description.input_blob: data}))
    right = _record(ours, names, lambda: ours(data))
    return [
        Difference(
            name, (left[name] - right[name]).abs().max().item(), float(left[name].max() - left[name].min())
        )
        for name in names
    ]


def _record(net: nn.Module, names: list[str], run: Any) -> dict[str, Tensor]:
    """Outputs of the sub-modules ``names`` during ``run``, copied before anything changes them in place."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            outputs[name] = output.clone()

        return hook

    handles = [getattr(net, name).register_forward_hook(keep(name)) for name in names]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def choose_network(
    given: WeightFile,
    arch: str | None,
    stages: int | None,
    parts: int | None,
    width: float | None,
    features: str | None = None,
    refine: str | None = None,
) -> Network | None:
    """The network that the caller's words, else the file's own, name; None when neither does.

    Numbers the caller leaves open are the file's, where its shapes or its words tell them.
    """
    own = given.network
    if arch is not None and (own is None or own.arch != arch):
        own = numbers_of(arch, given.weights)
    if own is None:
        return None
    return Network(
        own.arch,
        own.stages if stages is None else stages,
        own.parts if parts is None else parts,
        own.width if width is None else width,
        own.features if features is None else features,
        own.refine if refine is None else refine,
    )
