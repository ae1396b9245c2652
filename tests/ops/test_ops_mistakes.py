"""What else a caller can get wrong, function by function: one sentence naming argument, wanted and got."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from ops_support import (
    CENTER,
    FUNCTIONS,
    IMAGE,
    JOINTS,
    MAPS,
    PADS,
    PEOPLE,
    STAGES,
    VISIBLE,
    assert_refused,
)

from cpm_repro import ops

LARGE = 2**30

MISTAKES = [
    # An argument that is no tensor, or a strange one.
    ("belief_maps", {"joints": None}, TypeError, "joints must be a torch.Tensor, got NoneType"),
    ("belief_maps", {"joints": JOINTS.to_sparse()}, TypeError, "joints must be a dense tensor, got layout"),
    ("belief_maps", {"visible": [[[1]]]}, TypeError, "visible must be a torch.Tensor, got list"),
    (
        "belief_maps",
        {"visible": VISIBLE.bool()},
        TypeError,
        "visible must be an integer tensor of Visibility",
    ),
    ("belief_maps", {"center": (3, 4)}, TypeError, "center must be a torch.Tensor, got tuple"),
    ("belief_maps", {"center": CENTER.long()}, TypeError, "center must be a floating-point tensor of pixels"),
    (
        "belief_maps",
        {"center": CENTER.to(torch.complex64)},
        TypeError,
        "center must be a floating-point tensor",
    ),
    (
        "belief_maps",
        {"center": CENTER.to("meta")},
        ValueError,
        r"center must be on the device of joints \(cpu\), got meta",
    ),
    ("belief_maps", {"joints": JOINTS[..., :1]}, ValueError, r"joints must have shape \(N, P, K, 2\), got"),
    # More than any kernel can count.
    (
        "belief_maps",
        {"joints": torch.zeros(1).expand(2**30, 1, 1, 2)},
        ValueError,
        r"joints must have fewer than 1073741824 samples, .*, got \(1073741824, 1, 1, 2\)",
    ),
    (
        "belief_maps",
        {"joints": torch.zeros(1).expand(1, 2**20, 2**9, 2)},
        ValueError,
        r"joints must have fewer than .* and 536870912 joints per sample, got \(1, 1048576, 512, 2\)",
    ),
    (
        "belief_map_loss",
        {"joints": torch.zeros(1, 2**40, 0, 2)},
        ValueError,
        r"joints must have fewer than 1073741824 samples, people and parts and .*, got \(1, 1099511627776, 0",
    ),
    (
        "center_map",
        {"center": torch.zeros(1).expand(2**40, 2)},
        ValueError,
        r"center must have fewer than 1073741824 samples, .*, got \(1099511627776, 2\)",
    ),
    (
        "belief_map_loss",
        {"maps": [torch.zeros(1).expand(2, 4, 2**30 + 1, 1)]},
        ValueError,
        r"maps\[0\] must have sides of at most 1073741824, got \(2, 4, 1073741825, 1\)",
    ),
    # Numbers and sizes.
    ("belief_maps", {"stride": -8}, ValueError, "stride must be positive and finite, got -8"),
    ("belief_maps", {"stride": float("inf")}, ValueError, "stride must be positive and finite, got inf"),
    ("belief_maps", {"stride": 10**400}, ValueError, "stride must be positive and finite, got an integer of"),
    (
        "belief_maps",
        {"stride": 1e39},
        ValueError,
        r"stride must be between 1.18e-38 and 3.4e\+38, what float32",
    ),
    ("belief_maps", {"stride": 1e-39}, ValueError, "stride must be between 1.18e-38 and .* got 1e-39"),
    ("belief_maps", {"sigma": 10**5000}, ValueError, "sigma must be positive and finite, got an integer of"),
    ("belief_map_loss", {"stride": 1e39}, ValueError, r"stride must be between .* float32 holds, got 1e\+39"),
    (
        "belief_map_loss",
        {"sigma": -(10**400)},
        ValueError,
        "sigma must be positive and finite, got an integer",
    ),
    (
        "belief_map_loss",
        {"count": 10**400},
        ValueError,
        r"count must be a whole number below 2\*\*63, got an",
    ),
    (
        "belief_map_loss",
        {"count": -(10**5000)},
        ValueError,
        "count must be a whole number of at least 1, got an",
    ),
    ("belief_maps", {"stride": True}, TypeError, "stride must be a number, got bool"),
    ("belief_maps", {"center_sigma": 0.0}, ValueError, "center_sigma must be positive and finite, got 0.0"),
    ("belief_maps", {"grid": (46.5, 46)}, TypeError, r"grid must be two whole numbers \(height, width\)"),
    ("belief_maps", {"grid": (46,)}, TypeError, r"grid must be two whole numbers \(height, width\), got"),
    (
        "belief_maps",
        {"grid": (LARGE, LARGE)},
        ValueError,
        r"grid must have fewer than 2\*\*31 cells, got 1073741824 x 1073741824",
    ),
    (
        "belief_maps",
        {"center": CENTER, "center_size": (LARGE, LARGE)},
        ValueError,
        r"center_size must have fewer than 2\*\*31 cells, got",
    ),
    ("belief_maps", {"out": "label"}, TypeError, "out must be a list with one tensor per result, got str"),
    ("belief_maps", {"out": [None]}, TypeError, r"out\[0\] must be a torch.Tensor, got NoneType"),
    (
        "belief_maps",
        {"center": CENTER, "out": torch.zeros(2, 8, 46, 46)},
        ValueError,
        "out must be contiguous torch.float32 tensors of shapes",
    ),
    ("center_map", {"center": [1.0, 2.0]}, TypeError, "center must be a torch.Tensor, got list"),
    ("center_map", {"center": CENTER[0]}, ValueError, r"center must have shape \(N, 2\), got \(2,\)"),
    ("center_map", {"sigma": 0}, ValueError, "sigma must be positive and finite, got 0"),
    ("center_map", {"size": 368}, TypeError, r"size must be two whole numbers \(height, width\), got 368"),
    ("center_map", {"size": (0, 8)}, ValueError, r"size must be \(height, width\) between 1 and"),
    ("center_map", {"size": (LARGE, LARGE)}, ValueError, r"size must have fewer than 2\*\*31 cells"),
    (
        "center_map",
        {"dtype": "float32"},
        TypeError,
        "dtype must be float32, float16 or bfloat16, got 'float32'",
    ),
    ("center_map", {"backend": 3}, ValueError, "backend must be one of cpu, cuda, cupy, reference, got 3"),
    # Losses.
    ("belief_map_loss", {"maps": None}, TypeError, "maps must be a list with one tensor per stage, got None"),
    ("belief_map_loss", {"maps": [STAGES[0][0]]}, ValueError, r"maps\[0\] must have shape \(N, K\+1, h, w\)"),
    (
        "belief_map_loss",
        {"maps": [stage.to("meta") for stage in STAGES]},
        ValueError,
        r"maps must be on the device of joints \(cpu\), got meta",
    ),
    (
        "belief_map_loss",
        {"maps": [STAGES[0], STAGES[1].half()]},
        ValueError,
        r"maps\[1\] must be .* torch.float32 on cpu like maps\[0\], got .* torch.float16 on cpu",
    ),
    ("belief_map_loss", {"maps": STAGES * 20}, ValueError, "maps must hold 1 to 32 stages, got 40"),
    (
        "belief_map_loss",
        {"joints": JOINTS[:, :0], "visible": VISIBLE[:, :0]},
        ValueError,
        "joints must hold at least one person per sample, got 0",
    ),
    ("belief_map_loss", {"stride": 0.0}, ValueError, "stride must be positive and finite, got 0.0"),
    ("belief_map_loss", {"visible": VISIBLE - 1}, ValueError, "visible must hold Visibility codes 0, 1 or 2"),
    ("belief_map_loss", {"count": True}, ValueError, "count must be a whole number of at least 1, got True"),
    # Fusion of one person.
    (
        "fuse_multiscale",
        {"maps": None},
        TypeError,
        "maps must be a list with one tensor per person, got None",
    ),
    (
        "fuse_multiscale",
        {"pads": None},
        TypeError,
        r"pads must be a \(2, 4\) table of whole numbers, got None",
    ),
    ("fuse_multiscale", {"sizes": [[32, 32], [32]]}, ValueError, r"sizes must have shape \(2, 2\), got"),
    ("fuse_multiscale", {"sizes": [[2**40, 32]] * 2}, ValueError, "sizes must hold whole numbers below"),
    ("fuse_multiscale", {"pads": [[float("nan")] * 4] * 2}, TypeError, r"pads must be a \(2, 4\) table"),
    ("fuse_multiscale", {"image_hw": 20}, TypeError, r"image_hw must be two whole numbers \(height, width\)"),
    (
        "fuse_multiscale",
        {"image_hw": (LARGE, LARGE)},
        ValueError,
        "image_hw must leave a result that fits into memory, got",
    ),
    ("fuse_multiscale", {"weights": "ab"}, TypeError, r"weights must be numbers, one per scale \(2\)"),
    ("fuse_multiscale", {"weights": 1.0}, TypeError, r"weights must be numbers, one per scale \(2\)"),
    ("fuse_multiscale", {"weights": [0.0, 0.0]}, ValueError, "weights must be finite, not negative and not"),
    ("fuse_multiscale", {"stride": 65}, ValueError, "stride must be between 1 and 64, got 65"),
    ("fuse_multiscale", {"out": [1]}, TypeError, "out must be a torch.Tensor, got list"),
    (
        "fuse_multiscale",
        {"out": torch.zeros(3, 20, 20).transpose(1, 2)},
        ValueError,
        "out must be contiguous, got strides",
    ),
    ("fuse_multiscale_peaks", {"order": "rows"}, ValueError, "order must be 'column' or 'row', got 'rows'"),
    ("fuse_multiscale_peaks", {"mode": None}, ValueError, "mode must be 'matlab' or 'opencv', got None"),
    (
        "fuse_multiscale_peaks",
        {"maps": MAPS[:0], "pads": [], "sizes": []},
        ValueError,
        "maps must hold 1 to 64",
    ),
    (
        "fuse_multiscale_peaks",
        {"maps": MAPS[..., :0]},
        ValueError,
        "maps must have shape .* with cells in it",
    ),
    (
        "fuse_multiscale",
        {"weights": [1, 10**400]},
        ValueError,
        "weights must be finite, got an integer beyond",
    ),
    (
        "fuse_multiscale",
        {"pads": [[10**5000, 0, 0, 0]] * 2},
        ValueError,
        "pads must hold whole numbers below",
    ),
    (
        "fuse_multiscale",
        {"stride": 10**5000},
        ValueError,
        "stride must be between 1 and 64, got an integer of",
    ),
    *(
        (
            "fuse_multiscale_peaks",
            {"image_hw": image, "backend": backend},
            ValueError,
            r"image_hw must have sides of at most 2\*\*24 and fewer than 2\*\*32 pixels for peaks, got \(",
        )
        for image in ((2**16, 2**16), (2**24 + 1, 1), (1, 2**24 + 1))
        for backend in ("cpu", "cuda", "cupy", "reference")
    ),
    # Fusion of several people.
    *(
        (
            name,
            {"maps": [], "pads": [], "sizes": [], "backend": "best"},
            ValueError,
            "backend must be one of cpu",
        )
        for name in ("fuse_multiscale", "fuse_multiscale_peaks")
    ),
    (
        "fuse_multiscale",
        {**PEOPLE, "pads": PADS[:1]},
        ValueError,
        r"pads must have one entry per person \(2\)",
    ),
    (
        "fuse_multiscale",
        {**PEOPLE, "sizes": 7},
        ValueError,
        r"sizes must have one entry per person \(2\), got int",
    ),
    (
        "fuse_multiscale",
        {**PEOPLE, "image_hw": [IMAGE] * 3},
        ValueError,
        r"image_hw must have one entry per person \(2\), got 3",
    ),
    ("fuse_multiscale", {**PEOPLE, "image_hw": None}, ValueError, "image_hw must have one entry per person"),
    (
        "fuse_multiscale",
        {**PEOPLE, "pads": [PADS, [[1, 0, 0, 0]] * 2]},
        ValueError,
        r"pads\[1\]\[0\] and sizes\[1\]\[0\] must add up to \(32, 32\) input pixels, got \(33, 32\)",
    ),
    (
        "fuse_multiscale",
        {**PEOPLE, "maps": [MAPS, MAPS.to("meta")]},
        ValueError,
        r"maps\[1\] must be on the device of maps\[0\] \(cpu\), got meta",
    ),
    (
        "fuse_multiscale",
        {**PEOPLE, "out": [torch.zeros(3, 20, 20)]},
        ValueError,
        "out must have one entry per",
    ),
    (
        "fuse_multiscale",
        {**PEOPLE, "out": torch.zeros(2, 3, 20, 20)},
        TypeError,
        "out must be a list with one",
    ),
    # imresize.
    ("imresize", {"scale": "2"}, TypeError, "scale must be a number, got str"),
    ("imresize", {"scale": float("nan")}, ValueError, "scale must be positive and finite, got nan"),
    ("imresize", {"scale": None, "size": (2.5, 2)}, TypeError, "size must be two whole numbers"),
    ("imresize", {"scale": None, "size": 8}, TypeError, r"size must be two whole numbers \(height, width\)"),
    ("imresize", {"scale": 1e9}, ValueError, r"scale \* size must be \(height, width\) between 1 and"),
    ("imresize", {"scale": 1e308}, ValueError, "scale must be at most 1073741824, got 1e\\+308"),
    (
        "imresize",
        {"scale": 10**400},
        ValueError,
        "scale must be positive and finite, got an integer of 1329 bits",
    ),
    (
        "imresize",
        {"scale": None, "size": (10**5000, 2)},
        ValueError,
        "size must be .* got .an integer of 16610",
    ),
    (
        "imresize",
        {"scale": None, "size": (LARGE, LARGE)},
        ValueError,
        "size must leave a result that fits into memory, got",
    ),
    ("imresize", {"array": np.zeros((4, 4), complex)}, TypeError, "array must be uint8, float32 or float64"),
    ("imresize", {"array": np.zeros((4, 4), object)}, TypeError, "array must be uint8, float32 or float64"),
    ("imresize", {"array": np.zeros((2, 2, 2, 2))}, ValueError, "array must be a non-empty"),
]


@pytest.mark.parametrize(("name", "changed", "error", "words"), MISTAKES)
def test_mistakes_are_named(name, changed, error, words):
    assert_refused(name, changed, error, words)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_gpu_back_end_refuses_cpu_tensors(name):
    function, arguments = FUNCTIONS[name]
    for backend in ("cuda", "cupy"):
        with pytest.raises(ValueError, match=f"backend '{backend}' needs cuda tensors, got cpu tensors"):
            function(**arguments, backend=backend)


@pytest.mark.parametrize("first", [0, 80, 81, 200])
def test_outputs_that_share_memory_are_refused(first, backend):
    memory = torch.zeros(1000)
    label = memory[first : first + 288].view(1, 8, 6, 6)
    center = memory[:81].view(1, 1, 9, 9)
    given = (torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3, dtype=torch.int32), (6, 6))
    options = {"center": torch.zeros(1, 2), "center_size": (9, 9), "backend": backend}
    with nullcontext() if first >= 81 else pytest.raises(ValueError, match=r"out must be two .* no memory"):
        ops.belief_maps(*given, out=(label, center), **options)
    nobody = (given[0][:0], given[1][:0], given[2])
    options["center"] = torch.zeros(0, 2)
    ops.belief_maps(*nobody, out=(label[:0], center[:0]), **options)


@pytest.mark.parametrize("first", [40, 49, 50])
def test_several_peoples_outputs_that_share_memory_are_refused(first, backend):
    memory = torch.zeros(200)
    out = [memory[a : a + 50].view(2, 5, 5) for a in (120, first, 0)]
    people = ([torch.ones(1, 2, 3, 3)] * 3, [[[0] * 4]] * 3, [[[24, 24]]] * 3, (5, 5))
    with nullcontext() if first >= 50 else pytest.raises(ValueError, match=r"out must be .* share no memory"):
        ops.fuse_multiscale(*people, out=out, backend=backend)


def test_outputs_that_require_gradients_are_refused(backend):
    joints, visible = torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3, dtype=torch.int32)
    weight = torch.ones((), requires_grad=True)
    for label in (torch.zeros(1, 8, 6, 6, requires_grad=True), weight * torch.zeros(1, 8, 6, 6)):
        with pytest.raises(ValueError, match=r"out must not require gradients outside of torch\.no_grad"):
            ops.belief_maps(joints, visible, (6, 6), out=label, backend=backend)
        assert not label.detach().any()
    full = torch.zeros(2, 5, 5, requires_grad=True)
    person = (torch.ones(1, 2, 3, 3), [[0] * 4], [[24, 24]], (5, 5))
    with pytest.raises(ValueError, match=r"out must not require gradients outside of torch\.no_grad"):
        ops.fuse_multiscale(*person, out=full, backend=backend)
    with torch.no_grad():
        assert ops.fuse_multiscale(*person, out=full, backend=backend).any()
