"""The CUDA sources of belief maps, losses and imresize, executed on the CPU, against the torch reference."""

import ctypes
import math

import pytest
import stand_in
import torch

from cpm_repro import ops
from cpm_repro.ops import _library, _reference, _reference_resize


def skip_unless_built():
    if _library.LOAD_ERROR is not None:
        pytest.skip(f"extension is not built: {_library.LOAD_ERROR}")


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


def test_cuda_source_of_a_centre_map_narrower_than_a_vector(library):
    assert_like_reference(library, (4, 4), 8, 7.0, (40, 3))


def test_cuda_source_without_cutoff(library):
    assert_like_reference(library, (4, 4), 8, 7.0, (40, 44), cutoff=False)


@pytest.mark.parametrize(("samples", "slices"), [(1, 8), (3, 8), (176, 4), (264, 2), (528, 1)])
@pytest.mark.parametrize("order", [0, 1, 9])
def test_few_samples_are_shared_by_more_threads_with_the_same_results(library, samples, slices, order):
    """As few slices as make 528 blocks."""
    skip_unless_built()
    joints, visible, center = people(3, 3, 3, 11, 24 * 8)
    grid, size = (24, 24), (12, 30)
    label = ops.belief_maps(joints, visible, grid, backend="cpu")
    centers = _reference.center_map(center, size, 21.0, True)
    which = torch.arange(samples) % 3
    library.set_order(order)
    got, got_centers = stand_in.belief_maps(
        library, joints[which], visible[which], grid, 8, 7.0, center[which], size
    )
    library.set_order(0)
    assert stand_in.last_launch(library)[1:] == [256 // slices, slices]
    assert torch.equal(got, label[which])  # bit for bit
    torch.testing.assert_close(got_centers, centers[which], rtol=0, atol=2e-7)


@pytest.mark.parametrize(("samples", "steps"), [(1, 1), (9, 1), (18, 2), (34, 4), (70, 8)])
@pytest.mark.parametrize(("size", "vector"), [((256, 256), 4), ((254, 258), 4), ((127, 129), 1)])
def test_centre_maps_of_few_samples_are_shared_by_more_threads(library, samples, steps, size, vector):
    """Vectors run over in maps whose width is no multiple of four."""
    center = torch.rand(samples, 2, generator=torch.Generator().manual_seed(0)) * 340 - 60
    center[0] = torch.tensor([64.0, 50.5])
    nobody = torch.zeros(samples, 1, 0)
    got = stand_in.belief_maps(library, None, nobody, (0, 0), 8, 7.0, center, size)[1]
    assert stand_in.last_launch(library)[0] == samples * math.ceil(math.prod(size) / (256 * vector * steps))
    torch.testing.assert_close(got, _reference.center_map(center, size, 21.0, True), rtol=0, atol=2e-7)
    one = stand_in.belief_maps(library, None, nobody[:1], (0, 0), 8, 7.0, center[:1], size)[1]
    assert torch.equal(got[:1], one)


@pytest.mark.parametrize(
    ("persons", "parts"),
    [(0, 3), (1, 0), (0, 0), (1, 1), (70, 17), (1024, 1), (1025, 1), (1, 1025), (1200, 2)],
)
@pytest.mark.parametrize("grid", [(4, 6), (3, 3)])
def test_any_number_of_people_and_parts(library, persons, parts, grid):
    """More joints than a block stages (1024), people or parts among them; nobody and nothing."""
    joints, visible, _ = people(7, 2, persons, parts, 600)
    got, centers = stand_in.belief_maps(library, joints, visible, grid, 100, 60.0, None, (0, 0))
    assert centers is None
    if persons == 0:
        expected = torch.zeros_like(got)
        expected[:, [parts, -1]] = 1
    else:
        skip_unless_built()
        expected = ops.belief_maps(joints, visible, grid, 100, 60.0, backend="cpu")
        assert parts == 0 or 0 < expected[:, -1].min() < 1 or persons > 60
    assert torch.equal(got, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("grid", [(24, 24), (9, 11), (31, 2), (3, 1), (1, 50), (64, 4)])
@pytest.mark.parametrize("sigma", [0.5, 7.0, 40.0])
@pytest.mark.filterwarnings("ignore:joints holds NaN")
def test_labels_are_the_cpus_bit_for_bit(library, dtype, grid, sigma):
    skip_unless_built()
    joints, visible, _ = people(5, 3, 2, 14, 8 * max(grid))
    joints[0, 0, 0, 1], joints[1, 1, 3, 0] = float("inf"), float("nan")
    joints[2, 0, 5] = torch.tensor([3.5, 3.5])  # a cell's very middle
    got = stand_in.belief_maps(library, joints, visible, grid, 8, sigma, None, (0, 0), dtype=dtype)[0]
    assert torch.equal(got, ops.belief_maps(joints, visible, grid, 8, sigma, dtype=dtype, backend="cpu"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shifts", [(0, 0), (1, 0), (0, 1), (2, 3)])
def test_outputs_off_a_vectors_boundary_are_written_cell_by_cell(library, dtype, shifts):
    joints, visible, center = people(1, 2, 2, 8, 192)
    arguments = (joints, visible, (24, 24), 8, 7.0, center, (64, 64))
    got = stand_in.belief_maps(library, *arguments, dtype=dtype, shifts=shifts)
    vector = 1 if any(shifts) else 4  # cells at a time; eight slices, and one step
    blocks = math.ceil(24 * 24 / vector / 32) + 64 * 64 // vector // 256
    assert stand_in.last_launch(library) == [2 * blocks, 32, 8]
    expected = stand_in.belief_maps(library, *arguments, dtype=dtype)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize(
    ("samples", "sizes", "words"),
    [
        (2**31, (1, 1, 0, 0, 1, 1), b"too many maps for one launch"),
        (1, (1, 1, 0, 0, 2**16, 2**15), b"a map must have fewer than 2^31 cells"),
        (1, (2**15, 2**14, 1, 1, 1, 1), b"a sample must have fewer than 2^29 joints"),
    ],
)
def test_what_32_bits_cannot_count_is_refused_before_the_launch(library, samples, sizes, words):
    number = ctypes.c_double(8)
    library.belief_maps.restype = ctypes.c_char_p
    one = stand_in.pointer(torch.zeros(1))  # never read
    places = (one, one, one, None if sizes[2] == 0 else one, one)
    error = library.belief_maps(
        *places, ctypes.c_longlong(samples), (ctypes.c_int * 6)(*sizes), number, number, number, 1, 0
    )
    assert error == words


def test_empty_batch_launches_nothing(library):
    label, centers = stand_in.belief_maps(
        library, torch.zeros(0, 1, 2, 2), torch.zeros(0, 1, 2), (4, 4), 8, 7.0, torch.zeros(0, 2), (8, 8)
    )
    assert label.shape == (0, 6, 4, 4)
    assert centers.shape == (0, 1, 8, 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("order", [0, 1, 9])
def test_cuda_source_of_the_stage_losses(library, dtype, order):
    joints, visible, _ = people(2, 2, 3, 4, 160)
    generator = torch.Generator().manual_seed(5)
    maps = [torch.randn(2, 5, 20, 17, generator=generator).to(dtype).requires_grad_() for _ in range(9)]
    upstream = torch.arange(1.0, 10.0)
    library.set_order(order)
    losses, grads = stand_in.belief_map_loss(library, maps, joints, visible, upstream, 0.25)
    library.set_order(0)
    expected = _reference.belief_map_loss(maps, joints, visible, 8, 7.0, 0.25)
    torch.testing.assert_close(losses, expected.detach(), rtol=1e-6, atol=0)  # measured 2e-7
    tolerance = {"rtol": 1e-6, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 2**-7, "atol": 1e-6}
    for grad, other in zip(grads, torch.autograd.grad(expected @ upstream, maps), strict=True):
        torch.testing.assert_close(grad, other, **tolerance)


def test_sums_of_fine_grids_keep_small_squares(library):
    """More cells than a block adds up in float32: 256 by each of its threads, and their sums in double."""
    size, joints, visible = (300, 231), torch.zeros(1, 1, 1, 2), torch.full((1, 1, 1), 2)
    maps = [torch.stack([torch.full(size, 0.1), torch.full(size, 1.1)])[None] for _ in range(2)]
    losses, _ = stand_in.belief_map_loss(library, maps, joints, visible, torch.ones(2), 0.5)
    expected = size[0] * size[1] * (torch.tensor([0.1, 0.1]).double() ** 2).sum() / 2
    assert losses.double().tolist() == pytest.approx(2 * [expected.item()], rel=2e-6)


@pytest.mark.parametrize(("samples", "side"), [(0, 4), (2, 0)])
def test_cuda_source_of_the_losses_of_nothing(library, samples, side):
    joints, visible, _ = people(1, samples, 1, 3, 48)
    maps = [torch.zeros(samples, 4, side, 5)] * 2
    losses, _ = stand_in.belief_map_loss(library, maps, joints, visible, torch.ones(2), 0.5)
    assert losses.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("size", "scales"), [((9, 4), (0.45, 0.4)), ((31, 60), (1.55, 6.0)), ((5, 30), (0.25, 3.0))]
)
def test_cuda_source_of_imresize(library, dtype, size, scales):
    image = torch.rand(20, 10, 3, generator=torch.Generator().manual_seed(0)).mul(255).to(dtype)
    got = stand_in.imresize(library, image, size, scales)
    expected = _reference_resize.imresize(image, size, scales)
    torch.testing.assert_close(got, expected, rtol=0, atol=6e-5 if dtype == torch.float32 else 1e-11)


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
