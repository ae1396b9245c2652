"""Every registered operator: opcheck; every public function: torch.compile and torch.export."""

import re
from pathlib import Path

import pytest
import torch
from ops_support import people
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from cpm_repro import ops
from cpm_repro.ops import _library

PADS, SIZES, IMAGE = [[0, 0, 0, 0], [8, 0, 0, 8]], [[48, 48], [40, 40]], (30, 31)


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def stages(*, grad=True):
    return [random(2, 5, 6, 6, seed=seed).requires_grad_(grad) for seed in (1, 2)]


def operator_inputs():
    """One set of arguments per registered operator; two for those with optional ones."""
    joints, visible, center = people(side=48)
    codes = visible.int()
    maps = [random(2, 3, 6, 6), random(1, 4, 5, 7)]
    geometry = [0, 0, 48, 48, 8, 0, 40, 40, 0, 0, 40, 56]
    fused = [torch.zeros(3, 30, 31), torch.zeros(4, 9, 12)]
    weights = [0.25, 0.75, 1.0]
    targets = (joints, codes, 8.0, 7.0, 0.25)
    return {
        "belief_maps_out": [
            (joints, codes, center, 8.0, 7.0, 21.0, torch.zeros(2, 10, 6, 6), torch.zeros(2, 1, 9, 8)),
            (joints, codes, None, 8.0, 7.0, 21.0, torch.zeros(2, 10, 6, 6), None),
        ],
        "center_map_out": [(center, 21.0, True, torch.zeros(2, 1, 9, 8))],
        "belief_map_loss": [(stages(), *targets)],
        "belief_map_loss_backward": [(torch.ones(2).requires_grad_(), stages(), *targets)],
        "imresize": [(random(5, 6, 3), 7, 4, 7 / 5, 4 / 6), (random(5, 6), 7, 4, 7 / 5, 4 / 6)],
        "fuse_multiscale_out": [(maps, geometry, weights, 8, True, False, fused)],
        "fuse_multiscale_peaks": [
            (maps, geometry, weights, [30, 31, 9, 12], 8, True, False, False, subpixel)
            for subpixel in (False, True)
        ],
    }


def test_every_schema_is_looked_at():
    text = (Path(__file__).parents[2] / "csrc" / "ops" / "library.cpp").read_text()
    schemas = set(re.findall(r'm\.def\(\s*"(\w+)\(', text))
    assert schemas == set(_library.OPERATORS) == set(operator_inputs())


@pytest.mark.parametrize("name", _library.OPERATORS)
@pytest.mark.usefixtures("compiled")
def test_operators_pass_opcheck(name):
    for arguments in operator_inputs()[name]:
        torch.library.opcheck(getattr(torch.ops.cpm_repro, name).default, arguments)


JOINTS, VISIBLE, CENTER = people(side=48)
PUBLIC = {
    "belief_maps": (lambda j, v: ops.belief_maps(j, v, grid=(6, 6)), (JOINTS, VISIBLE)),
    "belief_maps, centre": (
        lambda j, v, c: ops.belief_maps(j, v, (6, 6), center=c, dtype=torch.float16),
        (JOINTS, VISIBLE, CENTER),
    ),
    "center_map": (lambda c: ops.center_map(c, size=(9, 8)), (CENTER,)),
    "belief_map_loss": (
        lambda a, b, j, v: ops.belief_map_loss([a, b], j, v),
        (*stages(grad=False), JOINTS, VISIBLE),
    ),
    "imresize, scale": (lambda x: ops.imresize(x, scale=1.7), (random(5, 6, 3),)),
    "imresize, size": (lambda x: ops.imresize(x, size=(9, 4)), (random(5, 6),)),
    "fuse_multiscale": (lambda m: ops.fuse_multiscale(m, PADS, SIZES, IMAGE), (random(2, 3, 6, 6),)),
    "fuse_multiscale, two people": (
        lambda a, b: ops.fuse_multiscale([a, b], [PADS] * 2, [SIZES] * 2, IMAGE, weights=[1.0, 2.0]),
        (random(2, 3, 6, 6), random(2, 4, 6, 6, seed=1)),
    ),
    "fuse_multiscale_peaks": (
        lambda m: ops.fuse_multiscale_peaks(m, PADS, SIZES, IMAGE, mode="opencv", subpixel=True),
        (random(2, 3, 6, 6),),
    ),
    "fuse_multiscale_peaks, two people": (
        lambda a, b: ops.fuse_multiscale_peaks([a, b], [PADS] * 2, [SIZES] * 2, IMAGE, order="row"),
        (random(2, 3, 6, 6), random(2, 4, 6, 6, seed=1)),
    ),
}


class Module(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *arguments):
        return self.function(*arguments)


def flat(result):
    return [result] if isinstance(result, torch.Tensor) else [x for item in result for x in flat(item)]


@pytest.mark.parametrize("how", ["compile", "compile, dynamic", "export"])
@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.usefixtures("compiled")
def test_public_functions_are_captured_whole(name, how):
    function, arguments = PUBLIC[name]
    expected = flat(function(*arguments))
    torch._dynamo.reset()
    if how == "export":
        captured = torch.export.export(Module(function), arguments).module()
    else:
        dynamic = True if how.endswith("dynamic") else None
        captured = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for got, wanted in zip(flat(captured(*arguments)), expected, strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.usefixtures("compiled")
def test_shapes_of_results_without_values(name):
    function, arguments = PUBLIC[name]
    with FakeTensorMode() as mode:
        got = flat(function(*map(mode.from_tensor, arguments)))
    assert [(t.shape, t.dtype) for t in got] == [(t.shape, t.dtype) for t in flat(function(*arguments))]
    graph = make_fx(lambda *given: flat(function(*given)), tracing_mode="fake")(*arguments)
    for got, wanted in zip(graph(*arguments), flat(function(*arguments)), strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.usefixtures("compiled")
def test_inductor_generates_code_around_the_operators():
    joints, visible, center = people(side=48)

    def step(joints, visible, center, data):
        label, centers = ops.belief_maps(joints * 2, visible, (6, 6), center=center)
        return ops.belief_map_loss([data + 1, data * 2], joints, visible).sum() + label.sum() + centers.max()

    data = random(2, 5, 6, 6).requires_grad_()
    expected = step(joints, visible, center, data)
    torch._dynamo.reset()
    got = torch.compile(step, fullgraph=True)(joints, visible, center, data)
    torch.testing.assert_close(got, expected)
    ours, theirs = (torch.autograd.grad(loss, data)[0] for loss in (got, expected))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.usefixtures("compiled")
def test_geometry_as_tensors_is_refused_where_it_cannot_be_read():
    torch._dynamo.reset()

    def fuse(maps, pads):
        return ops.fuse_multiscale(maps, pads, SIZES, IMAGE)

    with pytest.raises(Exception, match=r"pads must be lists of whole numbers under torch\.compile"):
        torch.compile(fuse, backend="aot_eager", fullgraph=True)(random(2, 3, 6, 6), torch.tensor(PADS))
