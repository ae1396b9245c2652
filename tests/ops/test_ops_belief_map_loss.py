"""belief_map_loss: the reference, an independent sum, gradients, and what a caller can get wrong."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ops_support import people
from support import golden
from torch.autograd import forward_ad

from cpm_repro.ops import _checks, belief_map_loss, belief_maps


def stage_maps(stages, shape, dtype=torch.float32, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for _ in range(stages)]


def test_losses_are_caffes_sum_over_golden_targets(backend):
    arrays = np.load(golden("cpmdata.npz"))
    label = arrays["all_label"][1]
    everybody = np.concatenate([arrays["all_final_joints"][1][None], arrays["all_final_others_1"]])[None]
    joints, visible = torch.tensor(everybody[..., :2]), torch.tensor(everybody[..., 2].astype(np.int64))
    maps = stage_maps(3, (1, 15, 23, 23))
    got = belief_map_loss(maps, joints, visible, backend=backend)
    targets = [label[15:], label[:15], label[:15]]
    expected = [
        ((m.detach().double().numpy()[0] - t.astype(np.float64)) ** 2).sum() / 2
        for m, t in zip(maps, targets, strict=True)
    ]
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-6)  # measured 2e-7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [(46, 46), (5, 3), (1, 1)])
def test_kernel_equals_reference_with_gradients(compiled, dtype, size):
    joints, visible, _ = people(side=size[1] * 8)
    maps = stage_maps(9, (2, 5, *size), dtype)
    weights = torch.arange(1, 10) / 4
    results = []
    for name in (compiled, "reference"):
        losses = belief_map_loss(maps, joints, visible, backend=name)
        results.append((losses.detach(), torch.autograd.grad((losses * weights).sum(), maps)))
    (losses, grads), (expected, expected_grads) = results
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=0)  # measured 2e-7
    for grad, other in zip(grads, expected_grads, strict=True):
        assert grad.dtype == dtype
        tolerance = {"rtol": 1e-6, "atol": 3e-7} if dtype == torch.float32 else {"rtol": 2**-7, "atol": 1e-6}
        torch.testing.assert_close(grad, other, **tolerance)


@pytest.mark.parametrize("size", [(300, 231), (1024, 1024)])
def test_sums_over_fine_grids_keep_small_squares(compiled, size):
    """One float32 sum of so many equal squares would be off by 3e-5 and 5e-4."""
    joints, visible = torch.zeros(1, 1, 1, 2), torch.full((1, 1, 1), 2)
    maps = [torch.stack([torch.full(size, 0.1), torch.full(size, 1.1)])[None] for _ in range(2)]
    losses = belief_map_loss(maps, joints, visible, backend=compiled)
    squares = [(stage.double() - torch.tensor([0.0, 1.0])[:, None, None]) ** 2 for stage in maps]
    expected = torch.stack([square.sum() / 2 for square in squares])
    torch.testing.assert_close(losses.double(), expected, rtol=2e-6, atol=0)


def test_first_stage_sees_everybody_later_ones_the_annotated_person(backend):
    joints, visible, _ = people()
    label = belief_maps(joints, visible, backend="reference")
    losses = belief_map_loss([label[:, 5:], label[:, :5], label[:, 5:]], joints, visible, backend=backend)
    assert losses[0] < 1e-9
    assert losses[1] < 1e-9
    assert losses[2] > 1


def test_gradient_is_the_difference_over_n(backend):
    joints, visible, _ = people(samples=3)
    maps = stage_maps(2, (3, 5, 46, 46))
    belief_map_loss(maps, joints, visible, backend=backend).sum().backward()
    label = belief_maps(joints, visible, backend="reference")
    for stage, target in zip(maps, (label[:, 5:], label[:, :5]), strict=True):
        torch.testing.assert_close(stage.grad, (stage.detach() - target) / 3, rtol=0, atol=2e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_second_and_third_gradients_are_the_references(compiled, dtype):
    joints, visible, _ = people(samples=3)
    weights = torch.tensor([0.5, 2.0, 3.0])
    results = []
    for name in (compiled, "reference"):
        maps = stage_maps(3, (3, 5, 6, 7), dtype)
        losses = belief_map_loss(maps, joints, visible, backend=name)
        first = torch.autograd.grad((losses / 100) ** 2 @ weights, maps, create_graph=True)
        penalty = sum(grad.float().square().sum() for grad in first)
        second = torch.autograd.grad(penalty, maps, create_graph=True)
        third = torch.autograd.grad(sum((10 * grad.float()).square().sum() for grad in second), maps)
        results.append([*second, *third])
    for got, expected in zip(*results, strict=True):
        assert got.dtype == dtype
        # Measured 1e-6, and 0.006 where gradients of 16 bits are rounded in every step.
        relative = 1e-5 if dtype == torch.float32 else 0.03
        assert (got - expected).abs().max() <= relative * expected.abs().max()


def test_count_is_the_n_of_the_whole_batch(backend):
    joints, visible, _ = people(samples=4)
    maps = stage_maps(2, (4, 5, 8, 8))
    whole = belief_map_loss(maps, joints, visible, backend=backend)
    halves = [
        belief_map_loss([m[part] for m in maps], joints[part], visible[part], count=4, backend=backend)
        for part in (slice(0, 2), slice(2, 4))
    ]
    torch.testing.assert_close(halves[0] + halves[1], whole, rtol=1e-6, atol=0)


def test_same_bits_with_any_number_of_threads(compiled):
    joints, visible, _ = people(samples=5)
    maps = stage_maps(3, (5, 5, 46, 46))
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(belief_map_loss(maps, joints, visible, backend=compiled))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_empty_batch_is_zero_and_differentiable(backend):
    maps = stage_maps(2, (0, 4, 5, 5))
    losses = belief_map_loss(
        maps, torch.zeros(0, 1, 3, 2), torch.zeros(0, 1, 3, dtype=torch.int64), backend=backend
    )
    losses.sum().backward()
    assert losses.tolist() == [0.0, 0.0]
    assert maps[0].grad.shape == (0, 4, 5, 5)


JOINTS, VISIBLE = torch.zeros(2, 1, 3, 2), torch.zeros(2, 1, 3, dtype=torch.int64)
MAPS = [torch.zeros(2, 4, 5, 5), torch.zeros(2, 4, 5, 5)]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"maps": MAPS[0]}, TypeError, "maps must be a list with one tensor per stage, got Tensor"),
        ({"maps": []}, ValueError, "maps must hold 1 to 32 stages, got 0"),
        ({"maps": [1.0]}, TypeError, r"maps\[0\] must be a torch.Tensor, got float"),
        ({"maps": [MAPS[0].double()]}, TypeError, r"maps\[0\] must be float32, float16 or bfloat16"),
        (
            {"maps": [MAPS[0], MAPS[1][:, :3]]},
            ValueError,
            r"maps\[1\] must be \(2, 4, 5, 5\) torch.float32 on cpu",
        ),
        ({"maps": [MAPS[0][:, :3]]}, ValueError, r"maps must have shape \(2, 4\) \+ \(h, w\) to fit joints"),
        ({"visible": VISIBLE[:1]}, ValueError, r"visible must have shape \(2, 1, 3\), got \(1, 1, 3\)"),
        ({"sigma": 0}, ValueError, "sigma must be positive and finite, got 0"),
        ({"count": 0}, ValueError, "count must be a whole number of at least 1, got 0"),
    ],
)
def test_mistakes_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        belief_map_loss(**{"maps": MAPS, "joints": JOINTS, "visible": VISIBLE, **arguments})


def test_limit_of_stages_is_the_headers():
    header = (Path(__file__).parents[2] / "csrc/math/loss.h").read_text()
    assert int(re.search(r"kMaxStages = (\d+)", header)[1]) == _checks.MAX_STAGES


@pytest.mark.usefixtures("compiled")
def test_gradients_under_torch_compile():
    joints, visible, _ = people()
    maps = stage_maps(2, (2, 5, 6, 6))

    def step(a, b):
        return belief_map_loss([a, b], joints, visible).sum()

    expected = torch.autograd.grad(step(*maps), maps)
    got = torch.autograd.grad(torch.compile(step, fullgraph=True, backend="aot_eager")(*maps), maps)
    assert all(torch.equal(x, y) for x, y in zip(got, expected, strict=True))


def test_forward_mode_derivatives_are_those_of_backward_mode():
    """The kernels have none: that of their losses was zero without a word."""
    joints, visible, _ = people()
    values, tangents = ([m.detach() for m in stage_maps(2, (2, 5, 6, 6), seed=seed)] for seed in (3, 4))
    maps = [value.clone().requires_grad_() for value in values]
    losses = belief_map_loss(maps, joints, visible)
    wanted = [
        sum((g * t).sum() for g, t in zip(torch.autograd.grad(loss, maps, retain_graph=True,
            materialize_grads=True), tangents, strict=True))
        for loss in losses
    ]  # fmt: skip
    with forward_ad.dual_level():
        dual = [forward_ad.make_dual(*pair) for pair in zip(values, tangents, strict=True)]
        got = forward_ad.unpack_dual(belief_map_loss(dual, joints, visible)).tangent
    torch.testing.assert_close(got, torch.stack(wanted))


def test_torch_func_goes_through_the_losses(compiled):
    joints, visible, _ = people()
    codes = visible.long()  # as a data loader gives them
    (maps,) = stage_maps(1, (2, 5, 6, 6))
    (wanted,) = torch.autograd.grad(belief_map_loss([maps], joints, codes).sum(), maps)
    values = maps.detach()

    def loss(one, places, seen, backend=None):
        return belief_map_loss([one[None]], places[None], seen[None], backend=backend)[0]

    got = torch.func.vmap(torch.func.grad(loss))(values, joints, codes)
    torch.testing.assert_close(got / len(values), wanted)
    with pytest.raises(ValueError, match=r"backend must be 'reference' in torch.func .*, got 'cpu'"):
        torch.func.grad(loss)(values[0], joints[0], codes[0], compiled)
