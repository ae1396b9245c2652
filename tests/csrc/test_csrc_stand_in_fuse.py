"""The CUDA sources of the fusion, executed on the CPU, against the torch reference."""

import pytest
import stand_in
import torch
from stand_in import FUSE_CASES

from cpm_repro.ops import _reference_resize


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
