"""What the inference benchmarks do on a GPU: results are compared without TF32, and timed with it."""

import sys
from functools import partial

import pytest
import torch
from scripts import script
from tf32_settings import tf32_allowed, tf32_flags

from cpm_repro.device import float32_products
from cpm_repro.inference import procedure


@pytest.mark.parametrize("name", ["inference", "inference_growth", "seven_scales"])
def test_results_are_compared_without_tf32_and_timed_as_they_are_used(name, monkeypatch):
    """Which is without it in the release's procedure. Devices are told that they are GPUs."""
    seen = set()
    as_on_a_gpu = partial(float32_products, torch.device("cuda"))
    hook = torch.nn.modules.module.register_module_forward_hook(lambda *_: seen.add(tf32_flags()))
    try:
        with script(name) as module, tf32_allowed(True, False):
            for place in (module, sys.modules["networks"], procedure):
                if hasattr(place, "float32_products"):
                    monkeypatch.setattr(place, "float32_products", lambda _, tf32: as_on_a_gpu(tf32=tf32))
            monkeypatch.setattr(torch, "compile", lambda work, **_: work)
            question = module.ask(True, "cpu")
            case = next(iter(question.cases))
            if name == "seven_scales":  # the maps that are compared are ready then
                assert seen == {(False, False)}
            seen.clear()
            assert case.checked() <= case.tolerance
            assert seen == {(False, False)}
            seen.clear()
            for work in case.works.values():
                work(0)
            assert seen == {(False, False) if name == "seven_scales" else (True, False)}
    finally:
        hook.remove()


def test_a_gpus_report_says_how_float32_was_timed():
    with script("networks") as module:
        assert module.tf32_notes("cpu") == ()
        (note,) = module.tf32_notes("cuda")
        assert "TF32" in note
