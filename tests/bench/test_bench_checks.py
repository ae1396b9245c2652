"""The checks before timing see a way that is wrong: by numbers that are none, or by writing nothing."""

import math

import pytest
import torch
from scripts import script

from cpm_repro.bench import BenchmarkWrong, largest


def test_what_is_not_a_number_is_the_largest_of_all():
    assert largest([]) == 0
    assert largest([1e-7, 3e-7, 2e-7]) == 3e-7
    for place in range(3):
        values = [1e-7, 1e-7, 1e-7]
        values[place] = math.nan
        assert math.isnan(largest(values))


@pytest.fixture
def belief_maps():
    with script("belief_maps") as module:
        torch.compiler.reset()
        yield module


def case_of(module, monkeypatch):
    """One crop, whose torch.compile is eager torch: compiling takes seconds and is not what is looked at."""
    monkeypatch.setattr(module.torch, "compile", lambda work, **_: work)
    return module.belief_maps_case(1, "cpu", module.straightforward())


@pytest.mark.parametrize("what", ["nothing", "nan"])
def test_belief_maps_that_are_not_made_are_not_timed(belief_maps, monkeypatch, what):
    """The plain loop had left the right maps where ours writes; NaN was less than any difference."""
    case = case_of(belief_maps, monkeypatch)
    assert case.checked() <= 1e-6

    def made(*_, out, **__):
        if what == "nan":
            out[1].fill_(math.nan)

    monkeypatch.setattr(belief_maps.ops, "belief_maps", made)
    with pytest.raises(BenchmarkWrong, match="differs from the reference by nan"):
        case.checked()


def test_another_way_that_makes_no_numbers_is_named(belief_maps, monkeypatch):
    case = case_of(belief_maps, monkeypatch)
    real = belief_maps.whole_maps_numpy
    monkeypatch.setattr(belief_maps, "whole_maps_numpy", lambda *given: (real(*given)[0] * math.nan,) * 2)
    with pytest.raises(BenchmarkWrong, match=r"of the cells by NumPy are wrong"):
        case.checked()


def test_a_peer_of_inference_that_makes_no_numbers_is_not_timed():
    with script("inference") as module:
        data = [torch.rand(1, 1, 2, 2)]
        ways = {name: torch.nn.Identity() for name in ("cpm_repro", "eager PyTorch", "OpenCV dnn")}
        assert module._worst(ways, data) == 0
        ways["OpenCV dnn"] = lambda blob: blob * math.nan
        assert math.isnan(module._worst(ways, data))


def test_losses_that_stop_being_numbers_are_not_timed(monkeypatch):
    with script("training_step") as module:
        losses = iter([[2.0, 1.0], [2.0, 1.0], [2.0, math.nan]])
        monkeypatch.setattr(module.Ours, "__call__", lambda *_: next(losses))
        monkeypatch.setattr(module.Plain, "__call__", lambda *_: [2.0, 1.0])
        small = {"network.width": 0.05, "augment.crop": 64, "solver.batch": 2}
        config = module.override(module.preset("tiny"), small)
        assert math.isnan(module.difference(module.fresh(config, "cpu"), config, "cpu", 1e-4))


def test_caffes_update_is_checked_on_the_device_that_is_timed(monkeypatch):
    asked = []

    def to(net, device):
        asked.append(device)
        return net

    with script("caffe_sgd") as module:
        monkeypatch.setattr(torch.nn.Module, "to", to)
        case = next(iter(module.ask(True, "cuda").cases))
        del asked[:]
        assert case.checked() <= 1e-6
        assert asked == ["cuda"]
