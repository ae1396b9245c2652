"""What is no mistake: nobody, no channels, positions that are no numbers, weights from a generator."""

import warnings

import pytest
import torch
from ops_support import IMAGE, MAPS, PADS, PEOPLE, SIZES

from cpm_repro import ops
from cpm_repro.ops import _checks


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
