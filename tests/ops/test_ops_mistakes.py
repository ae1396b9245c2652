"""What else a caller can get wrong, function by function: one sentence naming argument, wanted and got."""

import warnings

import numpy as np
import pytest
import torch

from cpm_repro import ops
from cpm_repro.ops import _checks

JOINTS, VISIBLE = torch.zeros(2, 1, 3, 2), torch.zeros(2, 1, 3, dtype=torch.int64)
CENTER = torch.zeros(2, 2)
STAGES = [torch.zeros(2, 4, 5, 5), torch.zeros(2, 4, 5, 5)]
MAPS, PADS, SIZES, IMAGE = torch.zeros(2, 3, 4, 4), [[0, 0, 0, 0]] * 2, [[32, 32]] * 2, (20, 20)
PEOPLE = {"maps": [MAPS, MAPS], "pads": [PADS, PADS], "sizes": [SIZES, SIZES]}
IMAGES = torch.zeros(4, 4)
LARGE = 2**30
NESTED = torch.nested.as_nested_tensor([JOINTS[0], JOINTS[1]], layout=torch.strided)
HALF_BYTES = torch.zeros(2, 1, 3, 2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
SEVERAL = np.array(["cpu", "row"])  # compared with a name it is neither true nor false

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
    "imresize": (ops.imresize, {"array": IMAGES, "scale": 0.5}),
}

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
def test_mistakes_are_named(name, changed, error, words):
    function, arguments = FUNCTIONS[name]
    with pytest.raises(error, match=words) as caught:
        function(**{**arguments, **changed})
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_gpu_back_end_refuses_cpu_tensors(name):
    function, arguments = FUNCTIONS[name]
    for backend in ("cuda", "cupy"):
        with pytest.raises(ValueError, match=f"backend '{backend}' needs cuda tensors, got cpu tensors"):
            function(**arguments, backend=backend)


def test_empty_inputs_give_empty_results(backend):
    none, nobody = torch.zeros(0, 1, 3, 2), torch.zeros(0, 1, 3, dtype=torch.int64)
    assert ops.belief_maps(none, nobody, (4, 5), backend=backend).shape == (0, 8, 4, 5)
    assert ops.center_map(torch.zeros(0, 2), (4, 5), backend=backend).shape == (0, 1, 4, 5)
    assert ops.belief_map_loss([torch.zeros(0, 4, 4, 5)], none, nobody, backend=backend).tolist() == [0.0]
    assert ops.fuse_multiscale([], [], [], (4, 4), backend=backend) == []
    assert ops.fuse_multiscale_peaks([], [], [], [], backend=backend) == ([], [])
    one = (MAPS[:, :0], PADS, SIZES, IMAGE)
    assert ops.fuse_multiscale(*one, backend=backend).shape == (0, 20, 20)
    xy, score = ops.fuse_multiscale_peaks(*one, backend=backend)
    assert (xy.shape, score.shape) == ((0, 2), (0,))
    mixed = ([MAPS[:, :0], MAPS], [PADS, PADS], [SIZES, SIZES], IMAGE)
    assert [full.shape[0] for full in ops.fuse_multiscale(*mixed, backend=backend)] == [0, 3]
    assert [len(score) for score in ops.fuse_multiscale_peaks(*mixed, backend=backend)[1]] == [0, 3]


def test_joints_that_are_no_numbers_count_as_not_visible_in_the_loss(backend):
    joints = torch.tensor([[[[9.0, 9.0], [12.0, 20.0], [float("nan"), 4.0]]]])
    shown, hidden = torch.ones(1, 1, 3, dtype=torch.int64), torch.tensor([[[1, 1, 2]]])
    maps = [torch.rand(1, 4, 5, 5, generator=torch.Generator().manual_seed(0))]
    _checks._warn_not_finite.cache_clear()
    with pytest.warns(RuntimeWarning, match="joints holds NaN or infinite positions: they count as not"):
        got = ops.belief_map_loss(maps, joints, shown, backend=backend)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # reported once
        ops.belief_map_loss(maps, joints, shown, backend=backend)
    assert torch.equal(got, ops.belief_map_loss(maps, joints, hidden, backend=backend))


def test_a_centre_that_is_no_number_gives_an_empty_map_and_is_reported_once(backend):
    center = torch.tensor([[float("nan"), 1.0], [2.0, float("inf")], [3.0, 2.0]])
    _checks._warn_not_finite.cache_clear()
    with pytest.warns(RuntimeWarning, match="center holds NaN or infinite positions"):
        maps = ops.center_map(center, (6, 7), backend=backend)
    assert [float(one.max()) for one in maps] == [0.0, 0.0, 1.0]


def test_weights_that_can_be_walked_through_once_are_everybodys(backend):
    people = [torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    arguments = (people, PEOPLE["pads"], PEOPLE["sizes"], IMAGE)
    expected = ops.fuse_multiscale(*arguments, weights=[1.0, 3.0], backend=backend)
    got = ops.fuse_multiscale(*arguments, weights=(w for w in (1.0, 3.0)), backend=backend)
    assert all(torch.equal(*pair) for pair in zip(got, expected, strict=True))
