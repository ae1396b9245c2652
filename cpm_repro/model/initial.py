"""First values of a network's parameters: Caffe's fillers, or He-normal."""

from __future__ import annotations

import math

import torch

from cpm_repro.errors import UserError
from cpm_repro.model.description import WEIGHT_FILLER
from cpm_repro.model.pose_machine import PoseMachine

SCHEMES = ("caffe", "kaiming")

LAST_CONV_STD = 1e-3
"""Under "kaiming": the convolutions that make belief maps. Together with a background bias of 1, the first
maps then say "background everywhere", which is what most of a target says, and the first losses do not depend
on the width."""


@torch.no_grad()
def initialise(net: PoseMachine, scheme: str = "caffe", generator: torch.Generator | None = None) -> None:
    """Fill every parameter of ``net`` in place, in layer order; equal generator states give equal networks.

    Schemes: ``caffe``: weights gaussian with std 0.01, as in the released training files. ``kaiming``:
    He-normal (std = sqrt(2 / fan_in), He et al. 2015) for convolutions that a ReLU follows, std
    :data:`LAST_CONV_STD` for each stage's last one. Biases are zero in both, except that under ``kaiming``
    the background map's is 1.

    Raises:
        UserError: an unknown scheme.
    """
    if scheme not in SCHEMES:
        raise UserError(f"unknown initialisation {scheme!r}: wanted one of {', '.join(SCHEMES)}")
    parameters = dict(net.named_parameters())
    for layer in net.description.convolutions:
        weight, bias = parameters[f"{layer.name}.weight"], parameters[f"{layer.name}.bias"]
        if scheme == "caffe":
            assert WEIGHT_FILLER.std is not None
            std = WEIGHT_FILLER.std
        elif layer.name in net.output_layers:
            std = LAST_CONV_STD
        else:
            std = math.sqrt(2 / weight[0].numel())
        weight.normal_(0.0, std, generator=generator)
        bias.zero_()
        if scheme == "kaiming" and layer.name in net.output_layers and net.maps > net.parts:
            bias[-1] = 1.0
