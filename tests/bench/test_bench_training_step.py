"""benchmarks/training_step.py: what a GPU measures at full size, with a narrow network in a small crop."""

from functools import partial

import pytest
import torch
from scripts import script
from tf32_settings import tf32_flags

from cpm_repro.bench.case import BenchmarkWrong, Goal
from cpm_repro.device import float32_products
from cpm_repro.training import step


@pytest.fixture(scope="module", name="script")
def training_step():
    with script("training_step") as module:
        yield module


@pytest.mark.parametrize("wrong", [1.0, 1.02])
def test_the_check_notices_a_gradient_that_is_wrong_by_two_percent(script, monkeypatch, wrong):
    original = script.Step._weights
    monkeypatch.setattr(script.Step, "_weights", lambda self, phase: wrong * original(self, phase))
    case = next(iter(script.ask(True, "cpu").cases))
    if wrong == 1.0:
        assert case.checked() < 1e-5
    else:
        with pytest.raises(BenchmarkWrong):
            case.checked()


@pytest.fixture
def tf32(script, monkeypatch):
    """(cuDNN's, matrix products') while the last convolution ran; devices are told that they are GPUs."""
    seen = []
    as_on_a_gpu = partial(float32_products, torch.device("cuda"))
    for place in (script, step):
        monkeypatch.setattr(place, "float32_products", lambda _, tf32: as_on_a_gpu(tf32=tf32))

    def look(*_):
        seen.append(tf32_flags())

    hook = torch.nn.modules.module.register_module_forward_hook(look)
    yield lambda: seen[-1]
    hook.remove()


def test_the_full_networks_case_comes_first_and_sets_tf32_for_every_way(script, tf32):
    question = script.ask(True, "cpu")
    case = next(iter(question.cases))
    assert case.name == "lsp_6stage, narrow, 64 px, N=4"
    assert list(case.works) == ["trainer", "plain eager loop", "plain eager loop, TF32"]
    assert case.goals == (
        Goal("plain eager loop", 2.5), Goal("plain eager loop, TF32", 1.5), Goal("limit", 0.5),
    )  # fmt: skip
    assert case.budget < 20
    for way, work in case.works.items():
        assert len(work(0)) == 6
        assert tf32() == (way.endswith("TF32"),) * 2
