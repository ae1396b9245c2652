"""What the operator tests share."""

import pytest
import torch

from cpm_repro.ops import _library


def skip_unless_built():
    if _library.LOAD_ERROR is not None:
        pytest.skip(f"extension is not built: {_library.LOAD_ERROR}")


def people(seed=0, samples=2, persons=3, parts=4, side=368):
    """Joints somewhat beyond a square of ``side`` pixels, codes, and centres."""
    generator = torch.Generator().manual_seed(seed)
    joints = torch.rand(samples, persons, parts, 2, generator=generator) * (side + 60) - 30
    visible = torch.randint(0, 3, (samples, persons, parts), generator=generator)
    return joints, visible, torch.rand(samples, 2, generator=generator) * side
