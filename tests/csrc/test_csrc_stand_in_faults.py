"""Mistakes planted in the CUDA sources, each of which the checks on the CPU must see."""

import pytest
import stand_in
import test_csrc_stand_in as maps
import test_csrc_stand_in_fuse as fusion
import torch


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
        maps.assert_like_reference(broken, (5, 8), 8, 7.0, (8, 8))
        maps.assert_like_reference(
            broken, (6, 6), 8, 7.0, (6, 6)
        )  # vectors of four cells run into the next row
        maps.test_cuda_source_of_the_stage_losses(broken, torch.float32, order=1)
        maps.test_sums_of_fine_grids_keep_small_squares(broken)
        maps.test_cuda_source_of_imresize(broken, torch.float64, (9, 4), (0.45, 0.4))
        fusion.test_cuda_source_of_the_fusion(broken, "enlarging, two tiles wide", opencv=False)
        fusion.test_cuda_source_of_the_fusion(broken, "two blocks high, the last cut", opencv=False)
        fusion.test_cuda_source_of_the_fusion(broken, "shrinking", opencv=False)
        fusion.test_one_large_cell_does_not_leave_the_range_of_halves(broken, (3, 40))
        fusion.test_cuda_source_refines_positions(broken, opencv=False)
        maps.test_few_samples_are_shared_by_more_threads_with_the_same_results(broken, 264, 2, order=1)
        maps.test_any_number_of_people_and_parts(broken, 70, 17, (4, 6))
        maps.test_centre_maps_of_few_samples_are_shared_by_more_threads(broken, 70, 8, (127, 129), 1)
