"""Arguments that hardly anybody writes by hand: torch's odd tensors, endless numbers, arrays for names."""

import numpy as np
import pytest
import torch
from ops_support import FUNCTIONS, JOINTS, PEOPLE, VISIBLE, assert_refused

NESTED = torch.nested.as_nested_tensor([JOINTS[0], JOINTS[1]], layout=torch.strided)
HALF_BYTES = torch.zeros(2, 1, 3, 2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
SEVERAL = np.array(["cpu", "row"])  # compared with a name it is neither true nor false

MISTAKES = [
    # Types that torch has and cannot convert, tensors without a shape, tensors without values.
    (
        "belief_maps",
        {"visible": torch.quantize_per_tensor(JOINTS[..., 0], 1.0, 0, torch.quint8)},
        TypeError,
        "visible must be an integer tensor of Visibility codes, got torch.quint8",
    ),
    (
        "belief_maps",
        {"visible": VISIBLE.to(torch.uint8).view(torch.bits8)},
        TypeError,
        "visible must be an integer tensor of Visibility codes, got torch.bits8",
    ),
    *(
        (name, {argument: HALF_BYTES}, TypeError, f"{argument} must be a floating-point tensor.*float4")
        for name, argument in (
            ("belief_maps", "joints"),
            ("center_map", "center"),
            ("fuse_multiscale", "maps"),
        )
    ),
    *(
        (name, {argument: NESTED}, TypeError, f"{argument} must be a dense tensor, got a nested one")
        for name, argument in (
            ("belief_maps", "joints"),
            ("belief_maps", "center"),
            ("belief_maps", "out"),
            ("belief_map_loss", "joints"),
            ("fuse_multiscale", "maps"),
            ("imresize", "array"),
        )
    ),
    (
        "belief_maps",
        {"visible": torch.nested.as_nested_tensor([VISIBLE[0]], layout=torch.strided)},
        TypeError,
        "visible must be a dense tensor, got a nested one",
    ),
    (
        "belief_map_loss",
        {"maps": [NESTED]},
        TypeError,
        r"maps\[0\] must be a dense tensor, got a nested one",
    ),
    (
        "fuse_multiscale",
        {"pads": torch.zeros(2, 4, dtype=torch.int64, device="meta")},
        TypeError,
        r"pads must be a \(2, 4\) table of whole numbers, got Tensor of shape \(2, 4\)",
    ),
    (
        "fuse_multiscale",
        {"image_hw": torch.zeros(2, dtype=torch.int64, device="meta")},
        TypeError,
        r"image_hw must be two whole numbers \(height, width\), got Tensor of shape \(2,\)",
    ),
    # Values that Python does not write, or over many lines.
    (
        "belief_maps",
        {"grid": (10**5000,)},
        TypeError,
        r"grid must be two whole numbers \(height, width\), got \(an integer of 16610 bits,\)",
    ),
    (
        "fuse_multiscale",
        {"pads": [[10**5000, "x", 0, 0]] * 2},
        TypeError,
        r"pads must be a \(2, 4\) table of whole numbers, got \[\[an integer of 16610 bits, 'x', 0, 0\]",
    ),
    (
        "imresize",
        {"scale": 10**5000, "size": (3, 3)},
        ValueError,
        r"either scale or size, got scale=an integer of 16610 bits and size=\(3, 3\)",
    ),
    (
        "fuse_multiscale",
        {"pads": torch.zeros(2, 4, 1)},
        TypeError,
        r"pads must be a \(2, 4\) table of whole numbers, got Tensor of shape \(2, 4, 1\)",
    ),
    (
        "fuse_multiscale",
        {"weights": torch.ones(2, 2)},
        TypeError,
        r"weights must be numbers, one per scale \(2\), got Tensor of shape \(2, 2\)",
    ),
    (
        "belief_maps",
        {"grid": np.zeros((9, 9))},
        TypeError,
        r"grid must be two .* got ndarray of shape \(9, 9\)",
    ),
    # Several values for one name or one yes or no.
    ("fuse_multiscale", {"mode": SEVERAL}, ValueError, r"mode must be 'matlab' or 'opencv', got ndarray"),
    ("fuse_multiscale_peaks", {"order": SEVERAL}, ValueError, "order must be 'column' or 'row', got ndarray"),
    *(
        (name, {"backend": SEVERAL}, ValueError, "backend must be one of .* got ndarray")
        for name in FUNCTIONS
    ),
    ("belief_maps", {"dtype": SEVERAL}, TypeError, "dtype must be float32, float16 or bfloat16, got ndarray"),
    (
        "center_map",
        {"cutoff": SEVERAL},
        TypeError,
        r"cutoff must be True or False, got ndarray of shape \(2,\)",
    ),
    ("center_map", {"cutoff": torch.ones(2)}, TypeError, "cutoff must be True or False, got Tensor of shape"),
    ("fuse_multiscale", {"background": SEVERAL}, TypeError, "background must be True or False, got ndarray"),
    (
        "fuse_multiscale_peaks",
        {"subpixel": SEVERAL},
        TypeError,
        "subpixel must be True or False, got ndarray",
    ),
    # Weights without a sum that divides them, and lengths of what has none.
    (
        "fuse_multiscale",
        {"weights": [1e308, 1e308]},
        ValueError,
        "weights must have a sum that is finite, got",
    ),
    *(
        ("fuse_multiscale", {"weights": [value, -value]}, ValueError, "weights must be finite, not negative")
        for value in (float("inf"), float("nan"), 1.0)
    ),
    (
        "fuse_multiscale",
        {**PEOPLE, "pads": torch.tensor(0)},
        ValueError,
        r"pads must have one entry per person \(2\), got Tensor",
    ),
    (
        "fuse_multiscale",
        {**PEOPLE, "image_hw": np.array(7)},
        ValueError,
        r"image_hw must have one entry per person \(2\), got ndarray",
    ),
]


@pytest.mark.parametrize(("name", "changed", "error", "words"), MISTAKES)
def test_strange_values_are_named(name, changed, error, words):
    assert_refused(name, changed, error, words)
