"""The CUDA sources, executed on the CPU, against the torch reference."""

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


FUSE_CASES = {
    "enlarging, two tiles wide": (
        (40, 300),
        [[100, 34, 100, 34], [90, -16, 90, -16]],
        [[168, 300], [188, 400]],
        8,
        46,
    ),
    "shrinking": ((17, 20), [[-40, -60, -40, -60]], [[448, 488]], 8, 46),
    "off the edge": ((33, 20), [[-30, 20, 30, -20]], [[40, 40]], 8, 5),
    "two blocks high, the last cut": ((150, 140), [[13, 18, 13, 18]], [[150, 140]], 8, 22),
    "one pixel": ((1, 1), [[10, 12, 10, 12]], [[20, 16]], 4, 10),
}


@pytest.mark.parametrize("name", FUSE_CASES)
@pytest.mark.parametrize("opencv", [False, True])
def test_cuda_source_of_the_fusion(library, name, opencv):
    image, pads, sizes, stride, cells = FUSE_CASES[name]
    maps = torch.randn(len(pads), 2, cells, cells, generator=torch.Generator().manual_seed(0))
    maps[:, 0] -= 5  # all negative: the peak search must cope
    reference = _reference_resize.fuse_opencv if opencv else _reference_resize.fuse_multiscale
    weights = [1 / len(pads)] * len(pads)
    expected = reference(maps, pads, sizes, image, stride, weights, True)
    for order in (0, 1, 9):
        library.set_order(order)
        full, xy, score = stand_in.fuse_multiscale(
            library, maps, pads, sizes, image, stride, opencv, row_major=order == 1
        )
        library.set_order(0)
        torch.testing.assert_close(full, expected, rtol=0, atol=5e-6)  # measured 2e-6 on values of 8
        place, value = _reference_resize.first_peaks(full, order == 1)
        assert torch.equal(score, value)
        assert torch.equal(xy, place.float())


def test_fused_maps_off_a_vectors_boundary_are_written_pixel_by_pixel(library, objects, tmp_path):
    """Seen by a wrong way of writing two at once, which only maps on the boundary must show."""
    fault = ("fuse_multiscale_kernel.h", "{{sum[right][index], sum[right][index + 1]}}", "{{-99.0f, -99.0f}}")
    broken = stand_in.build(tmp_path, stand_in.with_fault(*fault), objects)
    image, pads, sizes, stride, cells = FUSE_CASES["enlarging, two tiles wide"]
    maps = torch.randn(len(pads), 2, cells, cells, generator=torch.Generator().manual_seed(0))
    arguments = (maps, pads, sizes, image, stride)
    expected = stand_in.fuse_multiscale(library, *arguments)[0]
    assert (stand_in.fuse_multiscale(broken, *arguments)[0][..., :256] == -99).all()
    for shift in (1, 3):
        assert torch.equal(stand_in.fuse_multiscale(broken, *arguments, shift=shift)[0], expected)


@pytest.mark.parametrize("scales", [1, 7, 64])
def test_pairs_of_halves_keep_nearly_what_float32_keeps(library, scales):
    """Here sums are cut as roughly as by a Turing."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(scales, 1, 20, 20, generator=generator) * 2 - 1
    sizes = [[40 + 2 * s, 50 + 2 * s] for s in range(scales)]
    pads = [[60 - s, 50 - s] * 2 for s in range(scales)]
    full = stand_in.fuse_multiscale(library, maps, pads, sizes, (61, 70))[0]
    weights = [1 / scales] * scales
    expected = _reference_resize.fuse_multiscale(maps, pads, sizes, (61, 70), 8, weights, True)
    assert float((full - expected).abs().max()) < 1e-6  # measured 6e-7, 4.2e-7, 3.6e-7 on cells from -1 to 1


@pytest.mark.parametrize("power", [-140, -90, -30, 30, 100, 125])
def test_cells_of_any_size_come_into_the_range_of_halves(library, power):
    """By a power of two, so that cells times another make the same maps times it."""
    image, pads, sizes, stride, cells = FUSE_CASES["two blocks high, the last cut"]
    maps = torch.rand(1, 2, cells, cells, generator=torch.Generator().manual_seed(0)) - 0.5
    maps[:, 1] = 0  # nothing but zeros
    full = stand_in.fuse_multiscale(library, maps, pads, sizes, image, stride)[0][0]
    scaled = torch.ldexp(maps, torch.tensor(power))
    other = stand_in.fuse_multiscale(library, scaled, pads, sizes, image, stride)[0][0]
    if power >= -90:
        assert torch.equal(other, torch.ldexp(full, torch.tensor(power)))  # bit for bit
    else:  # float32 itself keeps 9 bits here
        torch.testing.assert_close(torch.ldexp(other, torch.tensor(-power)), full, rtol=0, atol=1e-2)


@pytest.mark.parametrize("place", [(0, 0), (45, 45), (3, 40)])
def test_one_large_cell_does_not_leave_the_range_of_halves(library, place):
    """Every cell is looked at for the largest."""
    image, pads, sizes, stride, cells = FUSE_CASES["shrinking"]
    maps = torch.rand(1, 2, cells, cells, generator=torch.Generator().manual_seed(0))
    maps[(0, 0, *place)] = 2.0**24
    expected = _reference_resize.fuse_multiscale(maps, pads, sizes, image, stride, [1.0], True)
    full = stand_in.fuse_multiscale(library, maps, pads, sizes, image, stride)[0]
    torch.testing.assert_close(full[0], expected[0], rtol=0, atol=2.0**24 * 3e-7)
    torch.testing.assert_close(full[1], expected[1], rtol=0, atol=1e-6)


def test_a_scale_without_weight_is_not_looked_at(library):
    image, pads, sizes, stride, cells = FUSE_CASES["enlarging, two tiles wide"]
    maps = torch.rand(2, 2, cells, cells, generator=torch.Generator().manual_seed(0))
    one = stand_in.fuse_multiscale(library, maps[:1].contiguous(), pads[:1], sizes[:1], image, stride)
    maps[1] = 1e30
    two = stand_in.fuse_multiscale(library, maps, pads, sizes, image, stride, weights=(1, 0))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_cell_that_is_not_finite_spoils_the_pixels_near_it_alone(library, value):
    geometry = ([[56, 160, 56, 168]], [[256, 40]], (256, 40), 8)
    maps = torch.rand(1, 2, 46, 46, generator=torch.Generator().manual_seed(0))
    expected = stand_in.fuse_multiscale(library, maps, *geometry)[0]
    maps[0, 0, 20, 22] = value  # image row 108
    got, _, score = stand_in.fuse_multiscale(library, maps, *geometry)
    spoiled = ~got.isfinite()
    assert not spoiled[1].any()
    assert spoiled[0, 96:120].any(1).all()
    assert set(spoiled[0].any(1).nonzero().flatten().tolist()) <= set(range(64, 128))  # of two warps
    assert torch.equal(got[~spoiled], expected[~spoiled])
    assert score[0] == got[0][~got[0].isnan()].max()


@pytest.mark.parametrize("opencv", [False, True])
def test_cuda_source_refines_positions(library, opencv):
    image, pads, sizes, stride, cells = FUSE_CASES["enlarging, two tiles wide"]
    maps = torch.randn(len(pads), 3, cells, cells, generator=torch.Generator().manual_seed(4))
    full, xy, score = stand_in.fuse_multiscale(
        library, maps, pads, sizes, image, stride, opencv, subpixel=True
    )
    expected, value = _reference_resize.peaks(full, row_major=False, subpixel=True)
    assert torch.equal(score, value)
    torch.testing.assert_close(xy, expected, rtol=0, atol=2e-3)  # measured 1e-4
    assert not torch.equal(xy, xy.round())


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("belief_maps_kernel.h", "plane + (p.parts + 1) * cells", "plane + p.parts * cells"),
        ("belief_maps_kernel.h", "plane += blockDim.y * cells)", "plane += cells)"),
        ("belief_maps_kernel.h", "  __syncthreads();\n  T* out", "  T* out"),
        ("belief_maps_kernel.h", "i < kStagedJoints; i +=", "i < kStagedJoints && block == 0; i +="),
        ("belief_maps_kernel.h", "other < kThreads;", "other < kThreads / 2;"),
        ("belief_maps_kernel.h", "i < kStagedJoints ?", "i <= kStagedJoints ?"),
        ("belief_maps_kernel.h", "start = block * steps * step", "start = block * step"),
        ("belief_maps_kernel.h", "if (++column == width)", "if (++column == width + 1)"),
        ("belief_map_loss_kernel.h", "shared[threadIdx.x + half]", "shared[threadIdx.x + half - 1]"),
        ("belief_map_loss_kernel.h", "begin == 0 ? total : partial + total", "total"),
        ("belief_map_loss_kernel.h", "cells : begin + kCellsAtOnce", "cells : cells"),
        ("imresize_kernel.h", "* p.inner + j;", "* p.inner;"),
        ("fuse_multiscale_kernel.h", "(int)(tile_y * kBlockRows)", "(int)(tile_y * kLeft)"),
        ("fuse_multiscale_kernel.h", "(int)(tile_x * kTileColumns)", "(int)(tile_x * kRight)"),
        ("fuse_multiscale_kernel.h", "for (int half = kThreads / 2;", "for (int half = kWarp / 2;"),
        ("fuse_multiscale_kernel.h", "columns[at.x]", "columns[at.x - (at.x & 1)]"),
        ("fuse_tables.h", "lowest[group] + place.cell", "lowest[group] + place.cell + 1"),
        ("fuse_tables.h", "place.cell - held.first[row]", "place.cell - held.first[group]"),
        ("fuse_tables.h", "tile * kLeft + place.row", "place.row"),
        ("fuse_range.h", "atomicMax(&most, mine)", "most = mine"),
        ("fuse_pixels.h", "warp * kRows + tile * kLeft", "warp * kLeft + tile * kLeft"),
        ("fuse_pixels.h", "first += kCellRows - kSlice + 1", "first += kCellRows"),
        ("fuse_pixels.h", "first + kCellRows >= block_rows.end", "first + kCellRows >= 0"),
        ("fuse_pixels.h", "turn = 1 - turn;", "turn = 0;"),
        ("fuse_pixels.h", "      __syncthreads();\n#pragma unroll 1\n      for (; warp", "      for (; warp"),
        ("fuse_pixels.h", "own[4 * kStride", "own[3 * kStride"),
        ("fuse_pixels.h", "(own + pass * kRowsAtOnce) * kStride", "(own + pass) * kStride"),
        ("fuse_pixels.h", "rest[tile], right0", "rounded[tile], right0"),
        ("fuse_pixels.h", "last = end < p.h ? end : p.h", "last = end < p.h ? end : p.h - 1"),
        ("fuse_tables.h", "held.highest[group] > span.end ?", "held.highest[group] < 0 ?"),
        ("fuse_tables.h", "held.lowest[group] < span.first ?", "held.lowest[group] < 0 ?"),
        ("fuse_tables.h", "(high - low + kSlice) / kSlice", "(high - low) / kSlice"),
        ("fuse_tables.h", "(cells * all + column)", "(cells * all + group)"),
        ("fuse_pixels.h", "from.columns += by.columns;", "from.columns += 0;"),
        ("fuse_pixels.h", "weights += kSliceWords;", "weights += 0;"),
        ("warp_matrix.h", "lane % 4 + (word >> 1) * 4", "lane % 4 + (word >> 1) * 2"),
        ("warp_matrix.h", "lane / 4 + (index >> 1) * 8", "lane / 4 + (index >> 1) * 4"),
        ("warp_matrix.h", "half_bits(value - half_value(rounded))", "half_bits(value)"),
        ("fuse_multiscale_kernel.h", "(point == 2)", "(point == 3)"),
        ("fuse_tables.h", "  __syncthreads();\n  if (mine < groups.count)", "  if (mine < groups.count)"),
        # Refused by a GPU, or wrong there.
        (
            "fuse_tables.h",
            "  __syncthreads();\n  if (mine < groups.count)",
            "  if (mine < groups.count) __syncthreads();\n  if (mine < groups.count)",
        ),
        (
            "belief_maps_kernel.h",
            "  T* out = static_cast<T*>(p.label)",
            "  if (first >= cells) return;\n  T* out = static_cast<T*>(p.label)",
        ),
        (
            "belief_maps.cu",
            "dim3(kThreads / grid.slices, grid.slices)",
            "dim3(kThreads * 8 / grid.slices, grid.slices)",
        ),
        ("fuse_multiscale.cu", "(unsigned int)p.scales, 3)", "(unsigned int)p.scales, 0)"),
        ("fuse_pixels.h", "    multiply_halves(rest", "    if (threadIdx.x % 2) multiply_halves(rest"),
    ],
)
@pytest.mark.usefixtures("library")
def test_a_planted_mistake_in_the_cuda_source_is_seen(tmp_path, objects, name, right, wrong):
    broken = stand_in.build(tmp_path, stand_in.with_fault(name, right, wrong), objects)
    with pytest.raises(AssertionError):  # noqa: PT012
        assert_like_reference(broken, (5, 8), 8, 7.0, (8, 8))
        assert_like_reference(broken, (6, 6), 8, 7.0, (6, 6))  # vectors of four cells run into the next row
        test_cuda_source_of_the_stage_losses(broken, torch.float32, order=1)
        test_sums_of_fine_grids_keep_small_squares(broken)
        test_cuda_source_of_imresize(broken, torch.float64, (9, 4), (0.45, 0.4))
        test_cuda_source_of_the_fusion(broken, "enlarging, two tiles wide", opencv=False)
        test_cuda_source_of_the_fusion(broken, "two blocks high, the last cut", opencv=False)
        test_cuda_source_of_the_fusion(broken, "shrinking", opencv=False)
        test_one_large_cell_does_not_leave_the_range_of_halves(broken, (3, 40))
        test_cuda_source_refines_positions(broken, opencv=False)
        test_few_samples_are_shared_by_more_threads_with_the_same_results(broken, 264, 2, order=1)
        test_any_number_of_people_and_parts(broken, 70, 17, (4, 6))
        test_centre_maps_of_few_samples_are_shared_by_more_threads(broken, 70, 8, (127, 129), 1)


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
