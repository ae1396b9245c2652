"""What the operator tests share."""

import pytest
import torch

from cpm_repro import ops
from cpm_repro.ops import _library

JOINTS, VISIBLE = torch.zeros(2, 1, 3, 2), torch.zeros(2, 1, 3, dtype=torch.int64)
CENTER = torch.zeros(2, 2)
STAGES = [torch.zeros(2, 4, 5, 5), torch.zeros(2, 4, 5, 5)]
MAPS, PADS, SIZES, IMAGE = torch.zeros(2, 3, 4, 4), [[0, 0, 0, 0]] * 2, [[32, 32]] * 2, (20, 20)
PEOPLE = {"maps": [MAPS, MAPS], "pads": [PADS, PADS], "sizes": [SIZES, SIZES]}

FUNCTIONS = {
    "belief_maps": (ops.belief_maps, {"joints": JOINTS, "visible": VISIBLE}),
    "center_map": (ops.center_map, {"center": CENTER}),
    "belief_map_loss": (ops.belief_map_loss, {"maps": STAGES, "joints": JOINTS, "visible": VISIBLE}),
    "fuse_multiscale": (
        ops.fuse_multiscale,
        {"maps": MAPS, "pads": PADS, "sizes": SIZES, "image_hw": IMAGE},
    ),
    "fuse_multiscale_peaks": (
        ops.fuse_multiscale_peaks,
        {"maps": MAPS, "pads": PADS, "sizes": SIZES, "image_hw": IMAGE},
    ),
    "imresize": (ops.imresize, {"array": torch.zeros(4, 4), "scale": 0.5}),
}
"""Every operator with arguments that it takes."""


def skip_unless_built():
    if _library.LOAD_ERROR is not None:
        pytest.skip(f"extension is not built: {_library.LOAD_ERROR}")


def people(seed=0, samples=2, persons=3, parts=4, side=368):
    """Joints somewhat beyond a square of ``side`` pixels, codes, and centres."""
    generator = torch.Generator().manual_seed(seed)
    joints = torch.rand(samples, persons, parts, 2, generator=generator) * (side + 60) - 30
    visible = torch.randint(0, 3, (samples, persons, parts), generator=generator)
    return joints, visible, torch.rand(samples, 2, generator=generator) * side


def assert_refused(name, changed, error, words):
    """Operator ``name`` with some arguments ``changed`` raises ``error`` in one sentence with ``words``."""
    function, arguments = FUNCTIONS[name]
    with pytest.raises(error, match=words) as caught:
        function(**{**arguments, **changed})
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
