"""benchmarks/seven_scales.py: what is not the network is run on its own, not what long times leave."""

import pytest
from scripts import script

from cpm_repro.bench import BenchmarkWrong, Goal
from cpm_repro.inference.procedure import BenchmarkProcedure
from cpm_repro.model import PoseMachine


@pytest.fixture
def cases():
    with script("seven_scales") as module:
        yield list(module.ask(True, "cpu").cases)


def test_everything_but_the_network_runs_without_the_network(cases, monkeypatch):
    whole, parts = cases
    assert whole.goals == (Goal("whole estimate", 10),)
    called = []

    def noted(name):
        original = getattr(BenchmarkProcedure, name)

        def step(*given, **options):
            called.append(name)
            return original(*given, **options)

        monkeypatch.setattr(BenchmarkProcedure, name, step)

    for name in ("views", "network_input", "peaks"):
        noted(name)
    monkeypatch.setattr(PoseMachine, "forward", lambda *_, **__: pytest.fail("the network ran"))
    for case in cases:
        called.clear()
        next(iter(case.works.values()))(0)
        assert called == ["views", "network_input", "peaks"]
    assert set(parts.works) == {"all but the network", "resize and pad", "input blob", "fuse and peaks"}


def test_other_parts_than_the_ready_maps_have_are_wrong(cases, monkeypatch):
    assert cases[0].checked() < 1e-4
    original = BenchmarkProcedure.views

    def larger(self, image, center, scale, multipliers):
        return original(self, image, center, 1.1 * scale, multipliers)

    monkeypatch.setattr(BenchmarkProcedure, "views", larger)
    with pytest.raises(BenchmarkWrong, match="other parts"):
        cases[0].checked()
