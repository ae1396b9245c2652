"""The CuPy back end behind the front, its texts executed on the CPU, against the torch reference."""

import ctypes
import importlib
import itertools
import sys
from types import SimpleNamespace

import cupy_stand_in
import numpy as np
import pytest
import stand_in
import torch
from compiled import compile_library
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_in import FUSE_CASES

from cpm_repro import ops
from cpm_repro.ops import _backend, _reference_resize
from cpm_repro.ops._cupy import belief, fusion, runtime

STREAM = 4711


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    return cupy_stand_in.CuPy(tmp_path_factory.mktemp("cupy"))


@pytest.fixture
def cupy(module, monkeypatch):
    """CuPy's stand-in in its place; the front chooses it also for tensors of the CPU."""
    monkeypatch.setitem(sys.modules, "cupy", module)
    runtime._module.cache_clear()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=STREAM))
    for name in ("belief_maps", "belief_map_loss", "fuse_multiscale", "imresize"):
        front = importlib.import_module(f"cpm_repro.ops.{name}")
        monkeypatch.setattr(front, "choose", lambda wanted, *_: wanted)
    module.streams.clear()
    module.grids.clear()
    module.entries.clear()
    yield module
    assert set(module.streams) <= {STREAM}
    runtime._module.cache_clear()


def people(seed=1, samples=2, persons=3, parts=4, side=160):
    generator = torch.Generator().manual_seed(seed)
    joints = torch.rand(samples, persons, parts, 2, generator=generator) * (side + 40) - 20
    joints[0, 0, 0] = float("nan")
    visible = torch.randint(0, 3, (samples, persons, parts), generator=generator)
    return joints, visible, torch.rand(samples, 2, generator=generator) * side


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("grid", "size"), [((20, 16), (24, 20)), ((5, 7), (9, 11))])
def test_belief_maps(cupy, grid, size, dtype):
    joints, visible, center = people(side=grid[1] * 8)
    options = {"center": center, "center_size": size, "dtype": dtype, "center_sigma": 9.0}
    got = ops.belief_maps(joints, visible, grid, backend="cupy", **options)
    tolerance = {"rtol": 0, "atol": 2e-7} if dtype == torch.float32 else {"rtol": 2**-8, "atol": 1e-6}
    for maps, expected in zip(
        got, ops.belief_maps(joints, visible, grid, backend="reference", **options), strict=True
    ):
        torch.testing.assert_close(maps.float(), expected.float(), **tolerance)
    assert len(cupy.grids) == 1  # one launch makes both


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shifts", [(0, 0), (1, 0), (0, 1), (2, 3)])
def test_belief_maps_into_outputs_off_a_vectors_boundary(cupy, shifts, dtype):
    joints, visible, center = people(side=128)
    options = {"center": center, "center_size": (24, 20), "dtype": dtype}
    expected = ops.belief_maps(joints, visible, (20, 16), backend="cupy", **options)
    out = tuple(stand_in.shifted(maps.shape, dtype, by) for maps, by in zip(expected, shifts, strict=True))
    ops.belief_maps(joints, visible, (20, 16), backend="cupy", out=out, **options)
    assert all(torch.equal(a, b) for a, b in zip(out, expected, strict=True))
    wide, vector = cupy.entries
    assert wide.endswith("_4")
    assert vector[-2:] == ("_1" if any(shifts) else "_4")


def test_more_maps_than_one_launch_takes_are_refused(cupy):
    """Fewer are refused by the front, whatever the back end; here a launch has the last word."""
    samples = 2**31
    center, maps = torch.zeros(1).expand(samples, 2), torch.zeros(1).expand(samples, 1, 1, 1)
    words = f"joints or center must hold few enough samples for one launch .*, got {samples} samples"
    with pytest.raises(ValueError, match=words):
        belief.center_map_out(center, 21.0, True, maps)
    assert not cupy.grids


@pytest.mark.parametrize("cutoff", [True, False])
def test_center_map(cupy, cutoff):
    center = people(side=40)[2]
    got = ops.center_map(center, (40, 52), 9.0, cutoff, backend="cupy")
    expected = ops.center_map(center, (40, 52), 9.0, cutoff, backend="reference")
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-7)
    assert len(cupy.grids) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_losses_and_gradients(cupy, dtype):
    joints, visible, _ = people()
    generator = torch.Generator().manual_seed(5)
    maps = [torch.randn(2, 5, 20, 17, generator=generator).to(dtype).requires_grad_() for _ in range(9)]
    upstream = torch.arange(1.0, 10.0)
    options = {"sigma": 9.0, "stride": 7, "count": 3}
    losses = ops.belief_map_loss(maps, joints, visible, backend="cupy", **options)
    expected = ops.belief_map_loss(maps, joints, visible, backend="reference", **options)
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=0)
    tolerance = {"rtol": 1e-6, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 2**-7, "atol": 1e-6}
    got = torch.autograd.grad(losses @ upstream, maps)
    for grad, other in zip(got, torch.autograd.grad(expected @ upstream, maps), strict=True):
        torch.testing.assert_close(grad, other, **tolerance)
    assert len(cupy.grids) == 4  # eight stages, one more, their totals; the gradients


@pytest.mark.usefixtures("cupy")
def test_second_gradients_of_losses_are_the_references():
    joints, visible, _ = people()
    results = []
    for name in ("cupy", "reference"):
        maps = [torch.linspace(-1, 1, 160).view(2, 5, 4, 4).requires_grad_() for _ in range(2)]
        losses = ops.belief_map_loss(maps, joints, visible, backend=name)
        grads = torch.autograd.grad((losses**2).sum(), maps, create_graph=True)
        results.append(torch.autograd.grad(sum((grad**3).sum() for grad in grads), maps))
    for got, expected in zip(*results, strict=True):
        assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(9, 4), (31, 60), (5, 30), (30, 5)])
def test_imresize(cupy, dtype, size):
    image = torch.rand(20, 10, 3, generator=torch.Generator().manual_seed(0)).mul(255).to(dtype)
    for array in (image, image[..., 0]):
        got = ops.imresize(array, size=size, backend="cupy")
        expected = ops.imresize(array, size=size, backend="reference")
        torch.testing.assert_close(got, expected, rtol=0, atol=6e-5 if dtype == torch.float32 else 1e-11)
    assert len(cupy.grids) == 4


@pytest.mark.parametrize("mode", ["matlab", "opencv"])
@pytest.mark.parametrize("name", FUSE_CASES)
@pytest.mark.usefixtures("cupy")
def test_fusion_and_peaks(name, mode):
    image, pads, sizes, stride, cells = FUSE_CASES[name]
    maps = torch.randn(len(pads), 2, cells, cells, generator=torch.Generator().manual_seed(0))
    maps[:, 0] -= 5
    options = {"mode": mode, "stride": stride, "weights": list(range(1, len(pads) + 1))}
    full = ops.fuse_multiscale(maps, pads, sizes, image, backend="cupy", **options)
    expected = ops.fuse_multiscale(maps, pads, sizes, image, backend="reference", **options)
    torch.testing.assert_close(full, expected, rtol=0, atol=5e-6)
    for order in ("column", "row"):
        xy, score = ops.fuse_multiscale_peaks(
            maps, pads, sizes, image, order=order, backend="cupy", **options
        )
        place, value = _reference_resize.first_peaks(full, order == "row")
        assert torch.equal(score, value)
        assert torch.equal(xy, place.float())


@pytest.mark.usefixtures("cupy")
def test_peaks_of_a_channel_of_nothing_but_nan_are_minus_infinity_at_pixel_0():
    maps = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    maps[:, 1] = float("nan")
    one = (maps, [[0, 0, 0, 0]], [[48, 48]], (40, 50))
    for order, subpixel in itertools.product(("column", "row"), (False, True)):
        options = {"order": order, "subpixel": subpixel}
        xy, score = ops.fuse_multiscale_peaks(*one, backend="cupy", **options)
        place, value = ops.fuse_multiscale_peaks(*one, backend="reference", **options)
        torch.testing.assert_close(score, value, rtol=0, atol=1e-5)
        torch.testing.assert_close(xy, place, rtol=0, atol=2e-3)
        assert (xy[1].tolist(), float(score[1])) == ([0.0, 0.0], float("-inf"))


@pytest.mark.usefixtures("cupy")
def test_fusion_of_many_people_without_background_and_subpixel_peaks():
    generator = torch.Generator().manual_seed(3)
    maps = [torch.randn(2, 3, 46, 46, generator=generator), torch.randn(1, 4, 20, 31, generator=generator)]
    pads = [[[100, 34, 100, 34], [-20, 10, -20, 10]], [[-8, 0, 0, 8]]]
    sizes = [[[168, 300], [408, 348]], [[168, 240]]]
    images = [(50, 90), (33, 65)]
    for background in (True, False):
        options = {"background": background, "backend": "cupy"}
        full = ops.fuse_multiscale(maps, pads, sizes, images, **options)
        expected = ops.fuse_multiscale(maps, pads, sizes, images, **{**options, "backend": "reference"})
        xy, score = ops.fuse_multiscale_peaks(maps, pads, sizes, images, subpixel=True, **options)
        for k in range(2):
            torch.testing.assert_close(full[k], expected[k], rtol=0, atol=5e-6)
            place, value = _reference_resize.peaks(full[k], row_major=False, subpixel=True)
            assert torch.equal(score[k], value)
            torch.testing.assert_close(xy[k], place, rtol=0, atol=2e-3)  # float32 differences of neighbours


@pytest.mark.usefixtures("cupy")
def test_empty_batches_give_empty_results():
    none, nobody = torch.zeros(0, 1, 3, 2), torch.zeros(0, 1, 3, dtype=torch.int64)
    assert ops.belief_maps(none, nobody, (4, 5), backend="cupy").shape == (0, 8, 4, 5)
    stages = [torch.zeros(0, 4, 4, 5, requires_grad=True)]
    losses = ops.belief_map_loss(stages, none, nobody, backend="cupy")
    assert losses.tolist() == [0.0]
    assert torch.autograd.grad(losses.sum(), stages)[0].shape == (0, 4, 4, 5)


@pytest.mark.usefixtures("cupy")
def test_fusion_into_an_output_off_a_vectors_boundary():
    image, pads, sizes, stride, cells = FUSE_CASES["enlarging, two tiles wide"]
    maps = torch.randn(len(pads), 2, cells, cells, generator=torch.Generator().manual_seed(0))
    expected = ops.fuse_multiscale(maps, pads, sizes, image, stride=stride, backend="cupy")
    out = stand_in.shifted(expected.shape, torch.float32, 1)
    ops.fuse_multiscale(maps, pads, sizes, image, stride=stride, out=out, backend="cupy")
    assert torch.equal(out, expected)


@pytest.mark.parametrize("name", ["fuse_multiscale", "fuse_multiscale_peaks"])
def test_more_tiles_than_one_launch_has_blocks_are_refused(cupy, name):
    maps = torch.empty(1, 2**31, 1, 1, device="meta")
    with pytest.raises(
        ValueError,
        match=r"image_hw must make fewer than 2\*\*31 tiles of all channels on a GPU, got 2147483648 of",
    ):
        getattr(ops, name)(maps, [[0, 0, 0, 0]], [[8, 8]], (4, 4), backend="cupy")
    assert not cupy.grids


def test_few_blocks_go_on_in_strides(cupy, monkeypatch):
    """What of the losses and of imresize does not fit into one launch's blocks is still done."""
    monkeypatch.setattr(runtime, "MOST_BLOCKS", 2)
    test_losses_and_gradients(cupy, torch.float32)
    assert cupy.grids == [(2,), (2,), (9,), (2,)]  # the totals have a block per stage
    cupy.grids.clear()
    test_imresize(cupy, torch.float32, (31, 60))
    assert cupy.grids == [(2,)] * 4


def test_older_cupy_gets_its_external_stream(tmp_path, monkeypatch):
    old = cupy_stand_in.CuPy(tmp_path, new=False)
    monkeypatch.setitem(sys.modules, "cupy", old)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=STREAM))
    runtime._module.cache_clear()
    runtime.launch(
        runtime.source("imresize_kernel.h", (runtime.Entry("nothing", "int a", "(void)a", "32"),)),
        "nothing", (1,), 32, (np.int32(5),), torch.device("cpu"),
    )  # fmt: skip
    runtime._module.cache_clear()
    assert old.streams == [STREAM]


def test_the_automatic_choice_takes_cupy_where_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr(_backend._library, "has_kernel", lambda *_: False)
    monkeypatch.setattr(_backend, "_why_no_cupy", lambda: None)
    _backend._warn_once.cache_clear()
    operators, cuda = _backend._library.OPERATORS, torch.device("cuda")
    with pytest.warns(RuntimeWarning, match="runs CuPy's kernels") as caught:
        chosen = [_backend.choose(asked, name, cuda) for name in operators for asked in (None, "cupy")]
    assert set(chosen) == {"cupy"}
    assert len(caught) == 1
    monkeypatch.setattr(_backend, "_why_no_cupy", lambda: "is not installed: install the extra [cuda12]")
    with pytest.raises(ValueError, match=r"backend 'cupy' is not installed: install the extra \[cuda12\]"):
        _backend.choose("cupy", "imresize", torch.device("cuda"))


@pytest.fixture(scope="module")
def header(tmp_path_factory):
    text = f"""
#include "{stand_in.ROOT}/csrc/math/fuse.h"
static cpm::ChainAxis axis(const int* c) {{ return cpm::ChainAxis{{c[0], c[1], c[2], c[3], c[4], c[5]}}; }}
extern "C" int taps(const int* chain) {{ return cpm::chain_taps(axis(chain)); }}
extern "C" int depth(const int* chain, int count) {{ return cpm::chain_depth(axis(chain), count); }}
extern "C" void row(const int* chain, int i, int width, float* weights, int* first) {{
  static cpm::Phases phases;
  const cpm::ChainAxis c = axis(chain);
  if (!c.opencv) for (int k = 0; k < c.stride; ++k) cpm::fill_phase(c, k, &phases);
  cpm::chain_row(c, phases, i, width, weights, first);
}}
"""
    return compile_library(tmp_path_factory.mktemp("chain"), text)


CHAINS = (st.integers(1, 200), st.integers(1, 64), st.integers(1, 5000), st.integers(1, 9000), st.booleans())


@settings(max_examples=300, deadline=None)
@given(*CHAINS, st.sampled_from([fusion.ROWS, fusion.COLUMNS]))
def test_widths_of_the_tables_are_the_headers(header, cells, stride, image, scaled, opencv, count):
    chain = (ctypes.c_int * 6)(cells, stride, 0, scaled, image, opencv)
    assert fusion.chain_taps(cells, stride, image, scaled, opencv) == header.taps(chain)
    assert fusion.chain_depth(count, cells, stride, image, scaled, opencv) == header.depth(chain, count)


@settings(max_examples=400, deadline=None)
@given(
    *CHAINS,
    st.integers(-300, 300),
    st.integers(0, 1 << 30),
    st.sampled_from([1, fusion.COLUMNS, fusion.ROWS]),
)
def test_no_pixel_depends_on_more_cells_than_its_table_has(
    header, cells, stride, image, scaled, opencv, pad, where, count
):
    chain = (ctypes.c_int * 6)(cells, stride, pad, scaled, image, opencv)
    start, touched = where % image // count * count, set()
    for pixel in range(start, min(start + count, image)):
        weights, first = (ctypes.c_float * cells)(), ctypes.c_int()
        header.row(chain, pixel, cells, weights, ctypes.byref(first))
        touched |= {first.value + k for k, weight in enumerate(weights) if weight != 0}
    span = max(touched) - min(touched) + 1 if touched else 0
    assert span <= (header.taps(chain) if count == 1 else header.depth(chain, count))
