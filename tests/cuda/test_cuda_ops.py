"""Every operator on a real GPU against the reference on the CPU: values, streams, graphs, sizes, autograd."""

import math

import pytest
import torch

from cpm_repro import ops
from cpm_repro.ops import _library, _reference_resize
from cpm_repro.ops.self_check import wrong_operators

pytestmark = pytest.mark.gpu


@pytest.fixture(params=["cuda", "cupy"])
def backend(request):
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    if request.param == "cuda" and not _library.has_kernel("belief_maps_out", "cuda"):
        pytest.skip("the extension was built without CUDA")
    if request.param not in ops.available_backends():
        pytest.skip(f"{request.param} is not available here")
    return request.param


@pytest.fixture
def cuda():
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    if not _library.has_kernel("belief_maps_out", "cuda"):
        pytest.skip("the extension was built without CUDA")
    return "cuda"


def people(samples=3, persons=2, parts=5, side=368, seed=0):
    generator = torch.Generator().manual_seed(seed)
    joints = torch.rand(samples, persons, parts, 2, generator=generator) * (side + 60) - 30
    visible = torch.randint(0, 3, (samples, persons, parts), generator=generator)
    return joints, visible, torch.rand(samples, 2, generator=generator) * side


def on_gpu(*tensors):
    return [t.cuda() for t in tensors]


def test_small_self_check(backend):
    assert wrong_operators(backend) == {}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("grid", [(46, 46), (5, 7), (1, 1), (12, 16)])
def test_small_belief_maps(backend, grid, dtype):
    joints, visible, center = people(side=grid[1] * 8)
    joints[0, 0, 0] = float("nan")
    options = {"grid": grid, "dtype": dtype}
    expected = ops.belief_maps(joints, visible, center=center, backend="reference", **options)
    j, v, c = on_gpu(joints, visible, center)
    for got, want in zip(ops.belief_maps(j, v, center=c, backend=backend, **options), expected, strict=True):
        tolerance = 1e-6 if dtype == torch.float32 else 2**-8
        torch.testing.assert_close(got.cpu(), want, rtol=0, atol=tolerance)


def off_a_boundary(like):
    """As ``like``, contiguous, one element off a boundary."""
    return torch.full((like.numel() + 1,), float("nan"), dtype=like.dtype, device="cuda")[1:].view(like.shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_small_belief_maps_into_outputs_off_a_vectors_boundary(backend, dtype):
    joints, visible, center = on_gpu(*people(side=128))
    options = {"grid": (20, 16), "center": center, "center_size": (24, 20), "dtype": dtype}
    expected = ops.belief_maps(joints, visible, backend=backend, **options)
    for which in ((True, False), (False, True), (True, True)):
        out = tuple(
            off_a_boundary(maps) if off else torch.empty_like(maps)
            for off, maps in zip(which, expected, strict=True)
        )
        ops.belief_maps(joints, visible, backend=backend, out=out, **options)
        assert all(torch.equal(a, b) for a, b in zip(out, expected, strict=True))


def test_small_fusion_into_an_output_off_a_vectors_boundary(backend):
    maps = torch.randn(1, 4, 46, 46, device="cuda")
    arguments = (maps, [[100, 34, 100, 34]], [[168, 300]], (40, 52))
    expected = ops.fuse_multiscale(*arguments, backend=backend)
    out = off_a_boundary(expected)
    ops.fuse_multiscale(*arguments, out=out, backend=backend)
    assert torch.equal(out, expected)


@pytest.mark.parametrize("samples", [1, 176, 264, 528])
@pytest.mark.parametrize("size", [(64, 60), (63, 61)])
def test_few_and_many_samples_have_equal_belief_maps(backend, samples, size):
    """8, 4, 2 or 1 threads share the parts of cells, and each makes 1, 2, 4 or 8 vectors of a centre map."""
    joints, visible, center = people(parts=11, side=192)
    options = {"grid": (24, 24), "center_size": size}
    expected = ops.belief_maps(joints, visible, center=center, backend="reference", **options)
    j, v, c = on_gpu(joints, visible, center)
    three = ops.belief_maps(j, v, center=c, backend=backend, **options)
    which = torch.arange(samples) % 3
    got = ops.belief_maps(j[which], v[which], center=c[which], backend=backend, **options)
    for maps, few, want in zip(got, three, expected, strict=True):
        torch.testing.assert_close(few.cpu(), want, rtol=0, atol=1e-6)
        assert torch.equal(maps, few[which.cuda()])


@pytest.mark.parametrize(("persons", "parts"), [(70, 17), (1025, 1), (1, 1025)])
def test_small_belief_maps_of_more_joints_than_a_block_stages(backend, persons, parts):
    joints, visible, _ = people(2, persons, parts, 600)
    expected = ops.belief_maps(joints, visible, (4, 6), 100, 60.0, backend="reference")
    got = ops.belief_maps(joints.cuda(), visible.cuda(), (4, 6), 100, 60.0, backend=backend)
    torch.testing.assert_close(got.cpu(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cutoff", [True, False])
def test_small_center_map(backend, cutoff):
    center = people(side=40)[2]
    got = ops.center_map(center.cuda(), (40, 52), 9.0, cutoff, backend=backend)
    torch.testing.assert_close(
        got.cpu(), ops.center_map(center, (40, 52), 9.0, cutoff, backend="reference"), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_small_losses_and_gradients(backend, dtype):
    joints, visible, _ = people()
    maps = [torch.randn(3, 6, 20, 17).to(dtype).requires_grad_() for _ in range(9)]
    expected = ops.belief_map_loss(maps, joints, visible, backend="reference")
    grads = torch.autograd.grad(expected.sum(), maps)
    moved = [m.detach().cuda().requires_grad_() for m in maps]
    got = ops.belief_map_loss(moved, joints.cuda(), visible.cuda(), backend=backend)
    again = ops.belief_map_loss(moved, joints.cuda(), visible.cuda(), backend=backend)
    assert torch.equal(got, again)
    torch.testing.assert_close(got.cpu(), expected, rtol=1e-6, atol=0)
    for a, b in zip(torch.autograd.grad(got.sum(), moved), grads, strict=True):
        tolerance = 1e-6 if dtype == torch.float32 else 2**-7
        torch.testing.assert_close(a.cpu(), b, rtol=tolerance, atol=1e-6)


def test_small_second_gradients(backend):
    joints, visible, _ = people()
    maps = [torch.randn(3, 6, 20, 17, generator=torch.Generator().manual_seed(k)) for k in range(2)]
    results = []
    for device, name in (("cuda", backend), ("cpu", "reference")):
        leaves = [m.to(device).requires_grad_() for m in maps]
        losses = ops.belief_map_loss(leaves, joints.to(device), visible.to(device), backend=name)
        grads = torch.autograd.grad((losses / 100) @ losses, leaves, create_graph=True)
        results.append(torch.autograd.grad(sum(grad.square().sum() for grad in grads), leaves))
    for got, expected in zip(*results, strict=True):
        assert (got.cpu() - expected).abs().max() <= 1e-4 * expected.abs().max()


def image_without_ties(scale):
    """8-bit noise of which no value, after either axis, lies where the rounding could fall either way."""
    for seed in range(1000):
        image = torch.randint(0, 256, (13, 9, 3), generator=torch.Generator().manual_seed(seed)).byte()
        size = [math.ceil(side * scale) for side in image.shape[:2]]
        rows = _reference_resize.resize_axis(image.double(), 0, size[0], scale)
        both = _reference_resize.resize_axis(rows.round().clamp(0, 255), 1, size[1], scale)
        if all(((values - values.floor() - 0.5).abs() > 1e-6).all() for values in (rows, both)):
            return image
    raise AssertionError("every image has a tie")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.3, 1.0, 2.71])
def test_small_imresize(backend, dtype, scale):
    image = image_without_ties(scale).to(dtype)
    got = ops.imresize(image.cuda(), scale, backend=backend).cpu()
    expected = ops.imresize(image, scale, backend="reference")
    tolerance = {torch.uint8: 0, torch.float32: 6e-5, torch.float64: 1e-10}[dtype]
    torch.testing.assert_close(got, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("mode", ["matlab", "opencv"])
@pytest.mark.parametrize("image", [(1, 1), (40, 50), (301, 257)])
def test_small_fusion_and_peaks(backend, image, mode):
    maps = torch.randn(3, 4, 46, 46)
    pads, sizes = [[100, 34, 100, 34], [-20, 10, -20, 10], [0, 0, 0, 0]], [[168, 300], [408, 348], [368, 368]]
    if image == (1, 1):
        pads, sizes = [[100, 114, 100, 114]] * 3, [[168, 140]] * 3
    expected = ops.fuse_multiscale(maps, pads, sizes, image, mode=mode, backend="reference")
    full = ops.fuse_multiscale(maps.cuda(), pads, sizes, image, mode=mode, backend=backend)
    torch.testing.assert_close(full.cpu(), expected, rtol=0, atol=1e-5)
    for order in ("column", "row"):
        xy, score = ops.fuse_multiscale_peaks(
            maps.cuda(), pads, sizes, image, mode=mode, order=order, backend=backend
        )
        place, value = _reference_resize.first_peaks(full, order == "row")
        assert torch.equal(score, value)
        assert torch.equal(xy, place.float())


@pytest.mark.parametrize("mode", ["matlab", "opencv"])
def test_small_fusion_of_many_people_and_subpixel_peaks(backend, mode):
    maps = [torch.randn(2, 3, 46, 46), torch.randn(1, 4, 20, 31)]
    pads = [[[100, 34, 100, 34], [-20, 10, -20, 10]], [[-8, 0, 0, 8]]]
    sizes = [[[168, 300], [408, 348]], [[168, 240]]]
    images = [(90, 120), (301, 257)]
    moved = [m.cuda() for m in maps]
    options = {"mode": mode, "weights": None}
    expected = ops.fuse_multiscale(maps, pads, sizes, images, backend="reference", **options)
    got = ops.fuse_multiscale(moved, pads, sizes, images, backend=backend, **options)
    for full, want in zip(got, expected, strict=True):
        torch.testing.assert_close(full.cpu(), want, rtol=0, atol=1e-5)
    xy, score = ops.fuse_multiscale_peaks(
        moved, pads, sizes, images, subpixel=True, backend=backend, **options
    )
    for full, place, value in zip(got, xy, score, strict=True):
        want, height = _reference_resize.peaks(full.cpu(), row_major=False, subpixel=True)
        assert torch.equal(value.cpu(), height)
        torch.testing.assert_close(place.cpu(), want, rtol=0, atol=2e-3)


def test_small_fusion_weights_and_strided_maps(backend):
    maps = torch.randn(2, 46, 46, 3).permute(0, 3, 1, 2)
    arguments = ([[100, 34, 100, 34], [-20, 10, -20, 10]], [[168, 300], [408, 348]], (90, 120))
    expected = ops.fuse_multiscale(maps, *arguments, weights=[1, 3], backend="reference")
    got = ops.fuse_multiscale(maps.cuda(), *arguments, weights=[1, 3], backend=backend)
    torch.testing.assert_close(got.cpu(), expected, rtol=0, atol=1e-5)


def test_cuda_graph_of_fusion_peaks_and_losses(cuda):
    maps = torch.randn(2, 3, 46, 46, device=cuda)
    arguments = ([[100, 34, 100, 34], [-20, 10, -20, 10]], [[168, 300], [408, 348]], (90, 120))
    joints, visible, _ = on_gpu(*people(parts=2))
    codes, stages = visible.int(), [torch.randn(3, 3, 46, 46, device=cuda) for _ in range(2)]

    def step():
        full = ops.fuse_multiscale(maps, *arguments, backend=cuda)
        xy, score = ops.fuse_multiscale_peaks(maps, *arguments, subpixel=True, backend=cuda)
        return full, xy, score, ops.belief_map_loss(stages, joints, codes, backend=cuda)

    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    maps.normal_()
    stages[0].normal_()
    expected = step()
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(captured, expected, strict=True))


def test_side_stream_and_strided_inputs(backend):
    joints, visible, _ = people(samples=64)
    expected = ops.belief_maps(joints, visible, backend="reference")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        slow = torch.randn(4096, 4096, device="cuda")
        for _ in range(5):
            slow = slow @ slow * 1e-3
        j = (joints.cuda() + slow[0, 0] * 0).transpose(0, 2).contiguous().transpose(0, 2)
        got = ops.belief_maps(j, visible.cuda(), backend=backend)
    stream.synchronize()
    torch.testing.assert_close(got.cpu(), expected, rtol=0, atol=1e-6)


GEOMETRY = ([[100, 34, 100, 34], [-20, 10, -20, 10]], [[168, 300], [408, 348]], (90, 120))


def every_operator(joints, visible, center, first, second, maps, image, backend):
    codes, stages = visible.int(), [first.detach().requires_grad_(), second.detach().requires_grad_()]
    losses = ops.belief_map_loss(stages, joints, codes, backend=backend)
    return [
        *ops.belief_maps(joints, codes, center=center, backend=backend),
        ops.center_map(center, (40, 52), 9.0, backend=backend),
        losses,
        *torch.autograd.grad(losses.sum(), stages),
        ops.imresize(image, 0.7, backend=backend),
        ops.fuse_multiscale(maps, *GEOMETRY, backend=backend),
        *ops.fuse_multiscale_peaks(maps, *GEOMETRY, subpixel=True, backend=backend),
    ]


def test_every_operator_runs_on_the_current_stream(backend):
    """What they read is made late on a side stream: on another stream they would read zeros."""
    stages = [torch.randn(8, 6, 46, 46) for _ in range(2)]
    inputs = on_gpu(*people(samples=8), *stages, torch.rand(2, 3, 46, 46), torch.rand(40, 30, 3))
    expected = every_operator(*inputs, backend=backend)
    late = [torch.zeros_like(t) for t in inputs]
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        slow = torch.randn(4096, 4096, device="cuda")
        for _ in range(20):
            slow = slow @ slow * 1e-3
        for to, source in zip(late, inputs, strict=True):
            to.copy_(source)
        got = every_operator(*late, backend=backend)
    stream.synchronize()
    assert all(torch.equal(one, want) for one, want in zip(got, expected, strict=True))


def test_cuda_graph_of_imresize(cuda):
    image = torch.rand(40, 30, 3, device=cuda)

    def step():
        return ops.imresize(image, 0.7, backend=cuda), ops.imresize(image, size=(55, 20), backend=cuda)

    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    image.uniform_()
    expected = step()
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(captured, expected, strict=True))


def test_cuda_graph_capture(cuda):
    joints, visible, center = on_gpu(*people())
    out = (torch.empty(3, 12, 46, 46, device="cuda"), torch.empty(3, 1, 368, 368, device="cuda"))
    ops.belief_maps(joints, visible.int(), center=center, out=out, backend=cuda)
    graph = torch.cuda.CUDAGraph()
    codes = visible.int()
    with torch.cuda.graph(graph):
        ops.belief_maps(joints, codes, center=center, out=out, backend=cuda)
    joints += 3
    expected = ops.belief_maps(joints, codes, center=center, backend=cuda)
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(out, expected, strict=True))


def test_more_than_two_to_the_31_elements(cuda):
    if torch.cuda.mem_get_info()[0] < 6e9:
        pytest.skip("needs 6 GB of free GPU memory")
    samples = 2**31 // (368 * 368) + 2
    center = torch.full((samples, 2), 100.0, device="cuda")
    maps = ops.center_map(center, dtype=torch.float16, backend=cuda)
    assert maps.numel() > 2**31
    assert torch.equal(maps[-1], maps[0])
    assert maps[-1, 0, 100, 100] == 1


def test_a_label_of_more_than_two_to_the_31_elements(backend):
    if torch.cuda.mem_get_info()[0] < 8e9:
        pytest.skip("needs 8 GB of free GPU memory")
    joints, visible, _ = people(1, 2, 14)
    samples = 2**31 // (2 * 15 * 46 * 46) + 2
    everybody = [t.cuda().repeat(samples, 1, 1, *[1] * (t.ndim - 3)) for t in (joints, visible)]
    label = ops.belief_maps(*everybody, dtype=torch.float16, backend=backend)
    assert label.numel() > 2**31
    expected = ops.belief_maps(joints, visible, dtype=torch.float16, backend="reference")
    for sample in (0, samples // 2, -1):
        torch.testing.assert_close(label[sample].cpu(), expected[0], rtol=0, atol=2**-10)


def test_tensors_on_two_devices_are_refused(cuda):
    joints, visible, _ = people()
    with pytest.raises(ValueError, match="visible must be on the device of joints"):
        ops.belief_maps(joints.cuda(), visible, backend=cuda)


def test_opcheck_on_the_gpu(cuda):
    joints, visible, center = on_gpu(*people())
    codes = visible.int()
    stages = [torch.randn(3, 6, 5, 4, device=cuda, requires_grad=True) for _ in range(2)]
    label, centers = torch.zeros(3, 12, 6, 6, device=cuda), torch.zeros(3, 1, 9, 8, device=cuda)
    maps, out = [torch.rand(1, 3, 6, 6, device=cuda)], [torch.zeros(3, 9, 12, device=cuda)]
    fusion = (maps, [0, 0, 48, 48], [1.0])
    calls = {
        "belief_maps_out": (joints, codes, center, 8.0, 7.0, 21.0, label, centers),
        "center_map_out": (center, 21.0, True, centers),
        "belief_map_loss": (stages, joints, codes, 8.0, 7.0, 0.5),
        "imresize": (torch.rand(5, 6, 3, device=cuda), 7, 4, 7 / 5, 4 / 6),
        "fuse_multiscale_out": (*fusion, 8, True, False, out),
        "fuse_multiscale_peaks": (*fusion, [9, 12], 8, True, False, False, True),
    }
    for name, arguments in calls.items():
        torch.library.opcheck(getattr(torch.ops.cpm_repro, name).default, arguments)
