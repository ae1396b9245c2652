"""The optimisers and schedules of our own."""

import copy
import math

import pytest
import torch

from cpm_repro.config import SolverConfig
from cpm_repro.model import build
from cpm_repro.training import muon, recipe
from cpm_repro.training.muon import Muon, orthogonalise
from cpm_repro.training.recipe import build_optimizers, lr_factor, use_bf16
from cpm_repro.training.watch import clock


@pytest.mark.parametrize("shape", [(16, 64), (64, 16), (32, 32)])
def test_orthogonalise_flattens_the_spectrum_and_keeps_the_directions(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalise(matrix)
    inside = u.T @ result @ v.T
    singular = inside.diagonal()
    # The quintic's fixed band is about [0.68, 1.13]; a random square matrix has singular values near zero
    # that five steps cannot lift, hence the lower bound on all but the smallest two.
    assert singular.max() < 1.25
    assert singular.sort().values[2:].min() > 0.4
    assert (inside - torch.diag(singular)).abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(32, 1568), (32, 288), (128, 32), (64, 64)])
@pytest.mark.parametrize("decades", [0, 2, 4])
def test_orthogonalise_equals_the_iteration_written_out(shape, decades):
    """Also where singular values span four decades, which the short side's products square."""
    torch.manual_seed(0)
    u, s, v = torch.linalg.svd(torch.randn(shape, dtype=torch.float64), full_matrices=False)
    matrix = (u * 10 ** (-decades * torch.linspace(0, 1, len(s), dtype=torch.float64))) @ v
    x = matrix.T if shape[0] > shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    exact = x.T if shape[0] > shape[1] else x
    ours = orthogonalise(matrix.float()).double()
    assert (ours - exact).norm() < 5e-5 * exact.norm()
    assert (orthogonalise(matrix) - exact).norm() < 1e-9 * exact.norm()


def test_matrices_in_a_stack_are_orthogonalised_each_for_itself():
    torch.manual_seed(0)
    stack = torch.randn(3, 8, 30) * torch.tensor([1.0, 1e-3, 1e3]).view(3, 1, 1)
    together = orthogonalise(stack)
    for one, other in zip(stack, together, strict=True):
        assert torch.allclose(orthogonalise(one), other, atol=1e-5)


def muon_after(monkeypatch, memory_format, kind=None):
    """Weights after three updates, and how many weights each call updated."""
    torch.manual_seed(0)
    shapes = [(8, 4, 3, 3), (6, 4, 1, 1), (8, 4, 3, 3), (16, 4, 1, 1), (8, 4, 3, 3)]
    weights = [torch.nn.Parameter(torch.randn(shape).to(memory_format=memory_format)) for shape in shapes]
    calls = []

    def run(function, works, groups):
        calls.extend(len(work) for work in works)
        return map(function, works, groups)

    if kind is not None:
        monkeypatch.setattr(muon, "_kind", kind)
    optimizer = Muon(weights, lr=0.1, weight_decay=0.1, run=run)
    for _ in range(3):
        for weight in weights:
            weight.grad = torch.randn(weight.shape).to(memory_format=memory_format)
        optimizer.step()
    return weights, calls


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_weights_of_one_shape_updated_together_end_where_each_alone_does(monkeypatch, memory_format):
    """On a GPU they are updated together."""
    alone, calls = muon_after(monkeypatch, memory_format)
    assert calls == 3 * [1, 1, 1, 1, 1]
    together, calls = muon_after(monkeypatch, memory_format, lambda weight: weight.shape)
    assert calls == 3 * [3, 1, 1]
    for a, b in zip(alone, together, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
        assert a.is_contiguous(memory_format=memory_format) == b.is_contiguous(memory_format=memory_format)


def test_muon_does_not_depend_on_the_memory_format(monkeypatch):
    plain, _ = muon_after(monkeypatch, torch.contiguous_format)
    last, _ = muon_after(monkeypatch, torch.channels_last)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(plain, last, strict=True))


def test_only_weights_outside_a_cpu_are_updated_together():
    calls = []
    weights = [torch.nn.Parameter(torch.empty(8, 4, 3, 3, device="meta")) for _ in range(3)]
    for weight in weights:
        weight.grad = torch.empty_like(weight)
    Muon(weights, run=lambda _, works, __: calls.extend(len(work) for work in works) or []).step()
    assert calls == [3]


def test_muon_moves_a_convolution_by_lr_along_each_direction():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(8, 4, 3, 3))
    before = weight.detach().clone()
    weight.grad = torch.randn_like(weight)
    Muon([weight], lr=0.01, momentum=0.0, weight_decay=0.0).step()
    step = (before - weight.detach()).reshape(8, -1)
    singular = torch.linalg.svdvals(step)
    assert singular.min() > 0.5 * 0.01
    assert singular.max() < 1.25 * 0.01


@pytest.mark.parametrize(
    ("arch", "readers"), [("tiny", {"conv1_1"}), ("lsp_6stage", {"conv1_stage1", "conv1_stage2"})]
)
def test_every_convolution_that_reads_the_picture_is_left_to_adamw(arch, readers):
    net = build(arch, width=0.05)
    matrices, others = recipe.split_for_muon(net)
    left = {id(weight) for weight in others if weight.ndim == 4}
    names = {name.removesuffix(".weight") for name, weight in net.named_parameters() if id(weight) in left}
    assert names == {*readers, *net.output_layers}
    assert len(matrices) + len(others) == len(list(net.parameters()))


def test_muon_decays_weights_by_lr_times_decay():
    weight = torch.nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.zeros(4, 4)
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    assert torch.allclose(weight, torch.full((4, 4), 0.95))


@pytest.mark.parametrize("from_plain", [False, True])
def test_fused_adamw_is_adamw_to_rounding(from_plain):
    """Also when it goes on with the state of a checkpoint made before it was fused."""
    torch.manual_seed(0)
    net = build("tiny", width=0.05, stages=2)
    weights = [torch.nn.Parameter(weight.detach().clone()) for weight in net.parameters()]
    solver = SolverConfig(optimizer="adamw", lr=1e-2, weight_decay=0.1)
    ours = build_optimizers(net, solver)
    assert ours.members[0].defaults["fused"]
    plain = torch.optim.AdamW(weights, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1, foreach=False)
    for number in range(6):
        for weight, other in zip(net.parameters(), weights, strict=True):
            weight.grad = torch.randn_like(weight)
            other.grad = weight.grad.clone()
        if from_plain and number == 3:
            state = plain.state_dict()
            state["param_groups"][0]["base_lr"] = 1e-2
            ours.load_state_dict([copy.deepcopy(state)])
        ours.step(0.5)
        plain.param_groups[0]["lr"] = 0.5e-2
        plain.step()
    for weight, other in zip(net.parameters(), weights, strict=True):
        assert weight.dtype == torch.float32
        assert torch.allclose(weight, other, rtol=1e-5, atol=1e-7)


def test_cosine_ends_at_zero_and_linear_is_flat_first():
    cosine = SolverConfig(schedule="cosine", warmup=0)
    assert lr_factor(cosine, 0, 0.0) == pytest.approx(1.0)
    assert lr_factor(cosine, 50, 0.5) == pytest.approx(0.5)
    assert lr_factor(cosine, 99, 1.0) == pytest.approx(0.0)
    linear = SolverConfig(schedule="linear", decay_share=0.4, warmup=0)
    assert [lr_factor(linear, 0, p) for p in (0.0, 0.6, 0.8)] == pytest.approx([1.0, 1.0, 0.5])


def test_step_is_caffes():
    step = SolverConfig(schedule="step", gamma=0.333, stepsize=100, warmup=0)
    assert [lr_factor(step, i, 0.0) for i in (0, 99, 100, 250)] == pytest.approx([1, 1, 0.333, 0.333**2])


def test_warmup_rises_linearly():
    config = SolverConfig(schedule="step", stepsize=1000, warmup=4)
    assert [lr_factor(config, i, 0.0) for i in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_precision_is_as_asked_and_auto_asks_the_processor(monkeypatch):
    device = torch.device("cpu")
    for there in (False, True):
        monkeypatch.setattr(recipe, "has_bf16", lambda _, there=there: there)
        assert use_bf16("auto", device) is there
        assert use_bf16("bf16", device)
        assert not use_bf16("float32", device)


def test_clock_reads_like_a_clock():
    assert [clock(s) for s in (0, 75, 3725, -3, math.pi)] == ["0:00", "1:15", "1:02:05", "0:00", "0:03"]
