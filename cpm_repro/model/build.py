"""From an architecture's name to a module."""

from __future__ import annotations

import torch

from cpm_repro.model.description import describe
from cpm_repro.model.initial import initialise
from cpm_repro.model.pose_machine import PersonMachine, PoseMachine, PoseMachine9x9, PoseMachineVGG

_CLASSES: dict[str, type[PoseMachine]] = {
    "mpii_6stage": PoseMachine9x9,
    "lsp_6stage": PoseMachine9x9,
    "flic_4stage": PoseMachine9x9,
    "mpii_vgg_6stage": PoseMachineVGG,
    "person_4stage": PersonMachine,
    "tiny": PoseMachineVGG,
}


def build(
    arch: str,
    *,
    stages: int | None = None,
    parts: int | None = None,
    width: float | None = None,
    features: str | None = None,
    refine: str | None = None,
    generator: torch.Generator | None = None,
    filled: bool = True,
) -> PoseMachine:
    """A pose machine with Caffe's fillers (gaussian std 0.01, biases 0), float32, in training mode.

    Args:
        arch: mpii_6stage, lsp_6stage, flic_4stage, mpii_vgg_6stage, person_4stage, or tiny (the VGG variant
            with 3 stages and a quarter of its width, for CPUs and crops of 128 px).
        stages, parts, width, features, refine: as in :func:`cpm_repro.model.describe`; None keeps the
            architecture's own.
        generator: draws the weights; None takes torch's global one.
        filled: False leaves the parameters' memory as it comes, for weights that are put in next.

    Raises:
        UserError: an unknown architecture, or a number out of range.
    """
    description = describe(arch, stages, parts, width, features=features, refine=refine)
    net = _CLASSES[arch](description)
    if filled:
        initialise(net, "caffe", generator)
    return net
