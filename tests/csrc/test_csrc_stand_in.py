"""The CUDA sources, executed on the CPU, against the torch reference."""

import ctypes

import pytest
import stand_in
import torch

from cpm_repro.ops import _reference


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return stand_in.build(tmp_path_factory.mktemp("stand_in"))


def people(seed, samples, persons, parts, side):
    generator = torch.Generator().manual_seed(seed)
    joints = torch.rand(samples, persons, parts, 2, generator=generator) * (side + 40) - 20
    visible = torch.randint(0, 3, (samples, persons, parts), generator=generator)
    return joints, visible, torch.rand(samples, 2, generator=generator) * side


def assert_like_reference(
    library, grid, stride, sigma, center_size, samples=2, persons=3, parts=5, cutoff=True, dtype=torch.float32
):
    joints, visible, center = people(1, samples, persons, parts, grid[1] * stride)
    joints[0, 0, 0] = float("nan")
    label, centers = stand_in.belief_maps(
        library, joints, visible, grid, stride, sigma, center, center_size, cutoff, dtype
    )
    # One float32 rounding of the exponent and of exp each way; measured 6e-8.
    tolerance = {"rtol": 0, "atol": 2e-7} if dtype == torch.float32 else {"rtol": 2**-8, "atol": 1e-6}
    expected = _reference.belief_maps(joints, visible, grid, stride, sigma)
    torch.testing.assert_close(label.float(), expected, **tolerance)
    expected = _reference.center_map(center, center_size, 21.0, cutoff)
    torch.testing.assert_close(centers.float(), expected, **tolerance)


@pytest.mark.parametrize(
    ("grid", "stride", "sigma", "center_size"),
    [
        ((46, 46), 8, 7.0, (92, 92)),
        ((5, 7), 8, 7.0, (9, 11)),
        ((1, 1), 4, 1.5, (1, 1)),
        ((12, 16), 3, 20.0, (16, 12)),
    ],
)
def test_cuda_source_makes_the_reference_maps(library, grid, stride, sigma, center_size):
    assert_like_reference(library, grid, stride, sigma, center_size)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("grid", [(6, 6), (5, 3)])
def test_cuda_source_writes_16_bit_maps(library, dtype, grid):
    assert_like_reference(library, grid, 8, 7.0, (16, 12), dtype=dtype)


def test_cuda_source_without_cutoff(library):
    assert_like_reference(library, (4, 4), 8, 7.0, (40, 44), cutoff=False)


def test_empty_batch_launches_nothing(library):
    label, centers = stand_in.belief_maps(
        library, torch.zeros(0, 1, 2, 2), torch.zeros(0, 1, 2), (4, 4), 8, 7.0, torch.zeros(0, 2), (8, 8)
    )
    assert label.shape == (0, 6, 4, 4)
    assert centers.shape == (0, 1, 8, 8)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("write<T, kVector>(all_out + part * cells, all)", "write<T, kVector>(all_out + part * cells, self)"),
        ("(first + i) / p.w", "(first + i) / p.h"),
        ("vector * kVector)", "vector * kVector + 1)"),
    ],
)
def test_a_planted_mistake_in_the_cuda_source_is_seen(tmp_path, right, wrong):
    text = (stand_in.CUDA / "belief_maps.cu").read_text()
    assert right in text
    broken = stand_in.build(tmp_path, {"belief_maps.cu": text.replace(right, wrong, 1)})
    with pytest.raises(AssertionError):
        assert_like_reference(broken, (5, 8), 8, 7.0, (8, 8))


def test_16_bit_rounding_is_torchs(library):
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31 - 1, (200_000,), generator=generator, dtype=torch.int64).to(
        torch.int32
    )
    halves = torch.arange(0, 2**16, dtype=torch.int32).to(torch.int16).view(torch.float16).float()
    neighbours = torch.cat([halves, (halves.nextafter(torch.tensor(9e9))), (halves.roll(1) + halves) / 2])
    values = torch.cat(
        [bits.view(torch.float32), neighbours, torch.tensor([65519.99, 65520.0, 2.0**-25, 3e-8, 1e-45])]
    )
    half, brain = torch.empty_like(values, dtype=torch.int16), torch.empty_like(values, dtype=torch.int16)
    library.round_to_16_bits(
        stand_in.pointer(values),
        ctypes.c_longlong(values.numel()),
        stand_in.pointer(half),
        stand_in.pointer(brain),
    )
    for got, dtype in ((half, torch.float16), (brain, torch.bfloat16)):
        expected = values.to(dtype)
        torch.testing.assert_close(got.view(dtype), expected, rtol=0, atol=0, equal_nan=True)
