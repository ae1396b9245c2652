"""The architectures by name, and the numbers each has unless others are given (spec `networks.json`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cpm_repro.config.settings import unknown
from cpm_repro.errors import UserError


@dataclass(frozen=True)
class Kernels:
    """Sides of the windows that set how far a network sees, beside its three poolings.

    ``features``: of the wide convolutions on the belief maps' grid before the first belief maps; two numbers
    in the 9x9 networks (conv4, conv5), one for all in the VGG family. ``refine``: of a refinement stage's
    wide convolutions, ``Mconv1``, ``Mconv2``, ...
    """

    features: tuple[int, ...]
    refine: tuple[int, ...]


_9X9_KERNELS = Kernels((5, 9), (11, 11, 11))
_VGG_KERNELS = Kernels((3,), (7, 7, 7, 7, 7))


@dataclass(frozen=True)
class Architecture:
    """An architecture's own numbers.

    ``family`` is how its layers are put together: ``9x9``, ``vgg`` or ``person``. ``background`` says whether
    a map for "no part here" is added. ``input_shape`` is (1, channels, height, width) of the deploy file.
    ``dropout_after`` names the layers that a Dropout follows in training.
    """

    family: str
    stages: int
    parts: int
    kernels: Kernels = _VGG_KERNELS
    width: float = 1.0
    background: bool = True
    input_blob: str = "data"
    input_shape: tuple[int, int, int, int] = (1, 4, 368, 368)
    dropout_after: tuple[str, ...] = ()


_DROPOUT_9X9 = ("relu5_stage1", "relu6_stage1")

ARCHITECTURES: Mapping[str, Architecture] = {
    "mpii_6stage": Architecture("9x9", 6, 14, _9X9_KERNELS, dropout_after=_DROPOUT_9X9),
    "lsp_6stage": Architecture("9x9", 6, 14, _9X9_KERNELS, dropout_after=_DROPOUT_9X9),
    "flic_4stage": Architecture("9x9", 4, 9, _9X9_KERNELS, dropout_after=_DROPOUT_9X9),
    "mpii_vgg_6stage": Architecture("vgg", 6, 14),
    "person_4stage": Architecture(
        "person", 4, 1, background=False, input_blob="image", input_shape=(1, 3, 376, 656)
    ),
    "tiny": Architecture("vgg", 3, 14, width=0.25, input_shape=(1, 4, 128, 128)),
}
"""Names that :func:`cpm_repro.model.describe` and :func:`cpm_repro.model.build` know."""


def architecture(name: str) -> Architecture:
    """The architecture called ``name``; an unknown name names the nearest one."""
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise UserError(unknown("architecture", str(name), ARCHITECTURES))
    return ARCHITECTURES[name]
