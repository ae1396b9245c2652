"""imresize: MATLAB's outputs, the reference, and what a caller can get wrong."""

import warnings

import numpy as np
import pytest
import torch
from support import golden

from cpm_repro.ops import _reference_resize, imresize


def golden_cases():
    arrays = np.load(golden("matlab_imresize.npz"))
    for key in arrays.files:
        name, _, how = key.partition("_")
        if how == "in":
            continue
        given = {"scale": float(how[5:])} if how.startswith("scale") else {}
        if not given:
            given = {"size": tuple(int(side) for side in how[4:].split("x"))}
        yield key, arrays[f"{name}_in"], given, arrays[key]


def near_half(image, size, scale):
    """Pixels whose value, or one that entered it, lies within 1e-6 of .5 before a rounding."""
    scales = (scale, scale) if scale else tuple(w / s for w, s in zip(size, image.shape, strict=False))
    first = 0 if scales[0] <= scales[1] else 1
    exact = _reference_resize.resize_axis(torch.tensor(image).double(), first, size[first], scales[first])
    ties = ((exact - exact.floor() - 0.5).abs() < 1e-6).double()
    rounded = exact.round().clamp(0, 255)
    second = 1 - first
    exact = _reference_resize.resize_axis(rounded, second, size[second], scales[second])
    index, weights = _reference_resize.taps(rounded.shape[second], size[second], scales[second], ties.device)
    touched = torch.zeros_like(exact)
    shape = [1, 1, 1]
    shape[second] = size[second]
    for tap in range(index.shape[1]):
        used = (weights[:, tap] != 0).double().view(shape)
        touched += ties.index_select(second, index[:, tap]) * used
    return ((touched > 0) | ((exact - exact.floor() - 0.5).abs() < 1e-6)).numpy()


def test_golden(backend):
    # Measured: float64 6e-8 (the golden arrays are float32); uint8 1 value of 272,211, at an exact tie.
    for key, image, given, expected in golden_cases():
        got = imresize(image, **given, backend=backend)
        assert got.dtype == image.dtype, key
        assert got.shape == expected.shape, key
        if image.dtype == np.uint8:
            tie = near_half(image, expected.shape[:2], given.get("scale"))
            assert (got == expected)[~tie].all(), key
            assert (got != expected).sum() <= 1, key
        else:
            assert abs(got - expected).max() <= 1e-7, key


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("shape", "given"),
    [
        ((7, 9, 3), {"scale": 0.1}),
        ((7, 9), {"scale": 3.7}),
        ((1, 1, 2), {"size": (5, 4)}),
        ((40, 3, 5), {"size": (3, 40)}),
        ((30, 20), {"size": (30, 19)}),
        ((21, 30, 3), {"scale": 0.6}),
        ((11, 70), {"size": (17, 61)}),
    ],
)
def test_kernel_equals_reference(compiled, dtype, shape, given):
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0)).mul(255).to(dtype)
    got = imresize(image, **given, backend=compiled)
    expected = imresize(image, **given, backend="reference")
    assert got.dtype == dtype
    # float32: the pass in between is stored as float32; measured 3e-5 of 255.
    torch.testing.assert_close(got, expected, rtol=0, atol=6e-5 if dtype == torch.float32 else 1e-11)


def test_is_not_opencvs_nor_torchs_cubic(backend):
    import cv2

    image = torch.rand(20, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours = imresize(image, scale=2.0, backend=backend)
    theirs = torch.nn.functional.interpolate(image[None, None], scale_factor=2.0, mode="bicubic")[0, 0]
    opencv = torch.tensor(cv2.resize(image.numpy(), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC))
    inside = (slice(8, -8), slice(8, -8))
    assert (theirs - opencv)[inside].abs().max() < 1e-6  # both a = -0.75
    assert (ours - theirs)[inside].abs().max() > 0.01  # a = -0.5
    half = torch.nn.functional.interpolate(
        image[None, None], scale_factor=2.0, mode="bicubic", antialias=True
    )
    assert (ours - half[0, 0])[inside].abs().max() < 1e-6  # torch's antialiased cubic has a = -0.5


def test_numpy_in_numpy_out_and_strides(backend):
    image = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    turned = image[::-1, ::2]
    got = imresize(turned, scale=1.5, backend=backend)
    assert isinstance(got, np.ndarray)
    assert np.array_equal(got, imresize(np.ascontiguousarray(turned), scale=1.5, backend="reference"))


def test_an_array_that_cannot_be_written_to(backend):
    """As np.asarray of a PIL image is: torch warns of those that share its memory."""
    image = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    wanted = imresize(image, scale=0.5, backend=backend)
    image.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(imresize(image, scale=0.5, backend=backend), wanted)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
def test_a_scale_may_be_numpys(kind):
    assert imresize(np.zeros((3, 4)), kind(2)).shape == (6, 8)


IMAGE = torch.zeros(4, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({}, ValueError, "imresize wants either scale or size, got scale=None and size=None"),
        ({"scale": 1.0, "size": (2, 2)}, ValueError, "imresize wants either scale or size"),
        ({"scale": 0.0}, ValueError, "scale must be positive and finite, got 0.0"),
        ({"scale": 1e-9}, ValueError, "scale must be at least 1e-05, got 1e-09"),
        ({"size": (0, 2)}, ValueError, r"size must be \(height, width\) between 1"),
        (
            {"array": IMAGE.half(), "scale": 1.0},
            TypeError,
            "array must be uint8, float32 or float64, got torch.float16",
        ),
        ({"array": IMAGE[0], "scale": 1.0}, ValueError, r"array must be a non-empty \(H, W\) or \(H, W, C\)"),
        ({"array": IMAGE[:0], "scale": 1.0}, ValueError, r"array must be a non-empty .*got shape \(0, 4\)"),
        ({"array": [[1.0]], "scale": 1.0}, TypeError, "array must be a torch.Tensor, got list"),
    ],
)
def test_mistakes_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        imresize(**{"array": IMAGE, **arguments})
