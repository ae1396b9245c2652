"""The release's procedure on a GPU, as far as that can be seen without one: on tensors that hold no numbers.

PyTorch's meta device knows shapes and types alone. What would make the host wait for a GPU raises there:
``item``, ``tolist``, a look at a value, leaving for NumPy or for the host's memory.
"""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cpm_repro import build
from cpm_repro.inference.procedure import BenchmarkProcedure
from cpm_repro.ops import _backend, _library


class Watch(TorchDispatchMode):
    """Notes every operator with the devices of what it takes and gives."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [value for value in (*args, result) if isinstance(value, torch.Tensor)]
        self.seen.append((str(function), [tensor.device.type for tensor in tensors]))
        return result

    def number(self, word):
        return sum(word in name for name, _ in self.seen)


class Pooled(torch.nn.Module):
    """Stands in for a network of two parts: the mean colours of every cell."""

    def forward(self, data, stages=None):  # noqa: ARG002
        return [torch.nn.functional.avg_pool2d(data[:, :3], 8)]


@pytest.fixture
def elsewhere(monkeypatch):
    """A procedure whose device is not the host; the compiled operators are taken there."""
    if _library.LOAD_ERROR is not None:
        pytest.skip(f"extension is not built: {_library.LOAD_ERROR}")
    made = BenchmarkProcedure(build("tiny", parts=2, width=0.05), box=128, device="cpu")
    monkeypatch.setattr(made, "device", torch.device("meta"))
    monkeypatch.setattr(made, "net", Pooled())
    monkeypatch.setattr(_backend, "_automatic", lambda *_: "cuda")
    return made


def test_everything_is_done_on_the_device_without_waiting_for_it(elsewhere, monkeypatch):
    image = np.full((90, 160, 3), 50, np.uint8)
    back = []

    def cpu(self):
        back.append(tuple(self.shape))
        return torch.zeros(self.shape)

    monkeypatch.setattr(torch.Tensor, "cpu", cpu)
    with Watch() as watch:
        found = elsewhere(image, (70.0, 40.0), 1.5)
    assert found.keypoints.shape == (2, 2)
    assert back == [(2, 3)]  # once, at the end: x, y, score of two parts
    host = {name for name, devices in watch.seen if "cpu" in devices}
    moved = [name for name, devices in watch.seen if {"cpu", "meta"} <= set(devices)]
    assert moved == ["aten._to_copy.default"]  # the photograph, once
    assert host == {"aten.lift_fresh.default", "aten.detach.default", *moved, "aten.zeros.default"}
    assert watch.number("cpm_repro.imresize") == 7
    assert watch.number("cpm_repro.fuse_multiscale_peaks") == 1
    assert watch.number("avg_pool2d") == 1  # the seven scales go through the network at once


def test_a_look_at_a_number_on_the_way_would_be_noticed(elsewhere):
    crops = elsewhere.views(np.full((90, 160, 3), 50, np.uint8), (70.0, 40.0), 1.5).crops
    assert (tuple(crops.shape), crops.dtype, crops.device.type) == ((7, 128, 128, 3), torch.uint8, "meta")
    for look in (lambda: crops.max().item(), lambda: crops.numpy(), lambda: crops.cpu(), crops.tolist):
        with pytest.raises((RuntimeError, NotImplementedError, TypeError)):
            look()
