"""The check of every operator that `cpm doctor` makes on the machine it runs on."""

from __future__ import annotations

import pytest
import torch

from cpm_repro import ops
from cpm_repro.cli import main
from cpm_repro.ops import self_check
from cpm_repro.ops.self_check import wrong_operators

OPERATORS = sorted(set(ops.__all__) - {"available_backends"})


def broken(monkeypatch, name: str, how) -> None:
    """Let one operator's fast back ends give something else, by ``how``; the reference stays."""
    right = getattr(ops, name)

    def wrong(*arguments, backend=None, **options):
        result = right(*arguments, backend=backend, **options)
        return result if backend == "reference" else how(result)

    monkeypatch.setattr(ops, name, wrong)


def moved(result):
    """The same with a step of 1 in its last number, of every tensor that may be one of several."""
    for tensor in [result] if isinstance(result, torch.Tensor) else result:
        tensor.detach().view(-1)[-1] += 1
    return result


def test_every_back_end_here_agrees(backend):
    assert wrong_operators(backend) == {}


def test_it_looks_at_every_operator():
    assert sorted(self_check._CASES) == OPERATORS


@pytest.mark.parametrize("name", OPERATORS)
def test_one_wrong_number_is_found(compiled, monkeypatch, name):
    broken(monkeypatch, name, moved)
    assert list(wrong_operators(compiled)) == [name]


def test_not_a_number_is_wrong(compiled, monkeypatch):
    broken(monkeypatch, "center_map", lambda maps: maps * float("nan"))
    broken(monkeypatch, "belief_maps", lambda made: (made[0] + 1, made[1] * float("nan")))
    assert wrong_operators(compiled) == dict.fromkeys(["belief_maps", "center_map"], "differs by nan")


def test_a_kernel_that_ends_in_an_error_is_wrong(compiled, monkeypatch, capsys):
    def ends(_):
        raise RuntimeError("CUDA error: no kernel image is available\nCompile with TORCH_USE_CUDA_DSA")

    broken(monkeypatch, "imresize", ends)
    assert wrong_operators(compiled)["imresize"].startswith("RuntimeError: CUDA error: no kernel image")
    assert main(["doctor"]) == 1
    said = capsys.readouterr()
    assert f"kernels, {compiled}    imresize: RuntimeError: CUDA error" in said.out
    assert said.err.splitlines() == [
        f"cpm doctor: error: wrong results here from the back end {compiled}: set CPM_BACKEND=reference, "
        "and report it"
    ]


def test_a_back_end_that_cannot_run_here_is_refused():
    with pytest.raises(ValueError, match="reference, got 'gpu'"):
        wrong_operators("gpu")
