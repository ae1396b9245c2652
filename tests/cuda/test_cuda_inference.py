"""The release's procedure on a real GPU: the CPU's parts, and no waiting for the device on the way."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch

from cpm_repro import build
from cpm_repro.device import float32_products
from cpm_repro.inference.estimator import PoseEstimator
from cpm_repro.inference.procedure import BenchmarkProcedure
from cpm_repro.ops import _library

pytestmark = pytest.mark.gpu


@pytest.fixture
def cuda():
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    if not _library.has_kernel("imresize", "cuda"):
        pytest.skip("the extension was built without CUDA")
    yield "cuda"
    torch.cuda.set_sync_debug_mode("default")


def photograph(height=300, width=400):
    coarse = np.random.default_rng(0).integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def network():
    torch.manual_seed(0)
    return build("tiny", width=0.25).eval()


def test_views_are_the_cpus(cuda):
    image, place = photograph(), ((210.0, 140.0), 0.9173)
    host, device = (BenchmarkProcedure(network(), box=128, device=name).views(image, *place)
                    for name in ("cpu", cuda))  # fmt: skip
    assert (host.pads, host.sizes) == (device.pads, device.sizes)
    assert device.crops.is_cuda
    different = (host.crops.int() - device.crops.cpu().int()).abs()
    assert different.max() <= 1  # a sum exactly between two levels may be rounded either way
    assert (different > 0).float().mean() < 1e-4


def test_after_the_photograph_nothing_waits_for_the_device(cuda):
    procedure = BenchmarkProcedure(network(), box=128, device=cuda)
    image, place = photograph(), ((210.0, 140.0), 0.9173)
    expected = BenchmarkProcedure(network(), box=128, device="cpu")(image, *place)
    found = procedure(image, *place)  # kernels are chosen and memory is taken
    views = procedure.views(image, *place)
    torch.cuda.set_sync_debug_mode("error")
    maps = procedure.stage_maps(views)
    torch.cuda.set_sync_debug_mode("default")
    again = procedure.peaks(maps, views, image.shape[:2])
    assert np.array_equal(found.keypoints, again.keypoints)
    assert np.abs(found.scores - expected.scores).max() < 1e-3


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_compiled_and_captured_people_are_the_same(cuda, precision):
    options = {"device": cuda, "precision": precision}
    plain, fast = PoseEstimator(**options), PoseEstimator(**options, compile=True)
    image = photograph()
    boxes = [(10 * index, 20, 10 * index + 150, 280) for index in range(7)]
    for count in (7, 3, 7, 1):  # of sizes 8, 4 and 1; a graph that was replayed before
        # Where one of two convolutions were in TF32, which cuDNN chooses, maps would be 2e-3 apart.
        with float32_products(torch.device(cuda), tf32=False):
            expected = plain(image, boxes=boxes[:count], keep_maps=True)
            first = fast(image, boxes=boxes[:count], keep_maps=True)
            kept = [[maps.copy() for maps in person.belief_maps] for person in first]
            fast(image[::-1].copy(), boxes=boxes[:count])  # must not write over what was given out
        allowed = 2e-2 if precision == "bf16" else 2e-4
        for a, b, copies in zip(expected, first, kept, strict=True):
            for x, y, z in zip(a.belief_maps, b.belief_maps, copies, strict=True):
                assert np.array_equal(y, z)
                assert np.abs(x - y).max() < allowed


def test_compiled_from_many_threads(cuda):
    fast = PoseEstimator(device=cuda, compile=True)
    images = [np.roll(photograph(), 20 * index, axis=1) for index in range(8)]
    alone = [fast(image, boxes=[(50, 20, 250, 280)])[0] for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: fast(image, boxes=[(50, 20, 250, 280)])[0], images))
    for a, b in zip(alone, together, strict=True):
        assert np.array_equal(a.keypoints, b.keypoints)
