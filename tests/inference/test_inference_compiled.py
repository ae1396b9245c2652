"""Networks for fixed numbers of crops, on a CPU: the same maps, nothing made twice, any number of crops."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from cpm_repro import build
from cpm_repro.errors import EnvironmentFailure, UserError
from cpm_repro.inference import compiled
from cpm_repro.inference.compiled import CompiledNetwork, filled
from cpm_repro.inference.estimator import PoseEstimator
from cpm_repro.inference.fast_convolution import fast_convolutions

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on a CPU")


def crops(count, side=64, seed=0):
    data = torch.randn(count, 4, side, side, generator=torch.Generator().manual_seed(seed))
    return data.contiguous(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return fast_convolutions(build("tiny", stages=2, width=0.06).eval()).to(memory_format=torch.channels_last)


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (5, 8), (8, 8), (9, 16)])
def test_batches_are_filled_up_to_powers_of_two(count, size):
    data = crops(count, 8)
    whole = filled(data)
    assert len(whole) == size
    assert torch.equal(whole[:count], data)
    assert not whole[count:].any()
    assert whole.is_contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_maps_are_the_networks_and_are_made_once_per_size(net, backend, monkeypatch):
    monkeypatch.setattr(compiled.torch, "compile", partial(torch.compile, backend=backend))
    fast = CompiledNetwork(net)
    counters.clear()
    for count in (3, 4, 3):  # one size: four
        data = crops(count, seed=count)
        for maps, expected in zip(fast(data), net(data), strict=True):
            assert maps.shape == expected.shape
            assert (maps - expected).abs().max() < 1e-5
    assert counters["stats"]["unique_graphs"] == 1
    batches = [crops(4, seed=seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        many = [maps[-1] for maps in pool.map(fast, batches)]
    for seed, maps in enumerate(many):
        assert (maps - net(crops(4, seed=seed))[-1]).abs().max() < 1e-5
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["recompile_limit"]


def test_an_estimator_that_is_compiled_says_the_same(run_folder, monkeypatch):
    monkeypatch.setattr(compiled.torch, "compile", partial(torch.compile, backend="eager"))
    image = np.random.default_rng(0).integers(0, 256, (90, 80, 3), dtype=np.uint8)
    plain, fast = (PoseEstimator(run_folder, stages=2, device="cpu") for _ in range(2))
    monkeypatch.setattr(fast, "_compiled", CompiledNetwork(fast.net, fast.stages))
    (a,), (b,) = (estimator(image, keep_maps=True, boxes=[(0, 0, 60, 80)]) for estimator in (plain, fast))
    assert len(a.belief_maps) == len(b.belief_maps) == 2
    assert max(np.abs(x - y).max() for x, y in zip(a.belief_maps, b.belief_maps, strict=True)) < 1e-5


def test_a_cpu_refuses_in_a_line(run_folder):
    with pytest.raises(UserError, match="compile: wanted a GPU, got the CPU"):
        PoseEstimator(run_folder, device="cpu", compile=True)


def test_without_a_compiler_it_is_one_line(net, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("No working C++ compiler found\nSee the manual")

    monkeypatch.setattr(compiled.torch, "compile", lambda graph, dynamic: broken)  # noqa: ARG005
    with pytest.raises(
        EnvironmentFailure, match=r"cannot be compiled here: No working C\+\+ compiler found$"
    ):
        CompiledNetwork(net)(crops(1))
