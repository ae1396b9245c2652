"""The paper's training schemes: what is frozen stays, what is trained learns, and phases resume exactly."""

import itertools
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from cpm_repro.config import SCHEMES, check, override, preset
from cpm_repro.data import open_dataset, val_batches
from cpm_repro.errors import UserError
from cpm_repro.inference.network_input import network_input
from cpm_repro.model import build
from cpm_repro.training import load_checkpoint, loop, schemes, stage_losses, step, train
from cpm_repro.training.run_folder import RunFolder
from cpm_repro.training.schemes import check_budget, enter, leave, phase_at, phases_of, stage_of

SMALL = {"network.width": 0.05, "augment.crop": 64, "solver.batch": 4, "validate_people": 10}


def small(scheme: str, iterations: int, **changes):
    config = replace(preset("tiny"), minutes=None, iterations=iterations, validate_every=1.0, scheme=scheme)
    return override(config, {**SMALL, **changes})


def records(folder, kind="train"):
    return [record for record in RunFolder(folder).records() if record["kind"] == kind]


def test_every_scheme_spends_the_whole_budget_in_order():
    for scheme in SCHEMES:
        phases = phases_of(scheme, stages=3)
        assert (phases[0].begin, phases[-1].end) == (0.0, 1.0)
        assert all(a.end == b.begin for a, b in itertools.pairwise(phases))
        assert phases[-1].stages == 3


def test_phases_by_hand():
    """Numbers as the docstring promises: equal shares stage by stage, half of the budget under (iii)."""
    alone = phases_of("stage-wise", 4)
    assert [(p.begin, p.end, p.active, p.weights()) for p in alone[:2]] == [
        (0.0, 0.25, (1,), [1.0]),
        (0.25, 0.5, (2,), [0.0, 1.0]),
    ]
    third = phases_of("stage-wise-then-end-to-end", 2, 0.5)
    assert [(p.begin, p.end, p.active, p.losses) for p in third] == [
        (0.0, 0.25, (1,), (1,)),
        (0.25, 0.5, (2,), (2,)),
        (0.5, 1.0, (1, 2), (1, 2)),
    ]
    assert phases_of("last-stage-loss", 3)[0].weights() == [0.0, 0.0, 1.0]
    assert [phase_at(alone, i / 10) for i in range(10)] == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert alone[1].progress(0.375) == 0.5


@pytest.mark.parametrize(
    ("arch", "first", "second"),
    [
        ("mpii_6stage", "conv7_stage1", "conv1_stage2"),
        ("mpii_vgg_6stage", "conv4_7_CPM", "Mconv1_stage2"),
        ("person_4stage", "conv5_2_CPM", "Mconv7_stage2"),
    ],
)
def test_layers_belong_to_the_first_stage_that_uses_them(arch, first, second):
    net = build(arch, width=0.02)
    stages = stage_of(net)
    assert set(stages) == {name for name, _ in net.named_parameters()}
    assert (stages[f"{first}.weight"], stages[f"{second}.bias"]) == (1, 2)
    assert all(stages[f"{layer}.weight"] == t for t, layer in enumerate(net.output_layers, start=1))


def test_a_frozen_stage_has_no_gradient_no_graph_and_no_dropout():
    net = build("flic_4stage", width=0.05, stages=3)
    enter(net, phases_of("stage-wise", 3)[1])
    maps = net(torch.randn(1, 4, 64, 64), 2)
    assert maps[0].grad_fn is None  # nothing was recorded for stage 1
    maps[1].square().sum().backward()
    stages = stage_of(net)
    for name, weight in net.named_parameters():
        assert weight.requires_grad == (stages[name] == 2)
        assert (weight.grad is not None) == (stages[name] == 2), name
    net.train()
    enter(net, phases_of("stage-wise", 3)[1])  # train() switched dropout on again; a phase switches it off
    assert (net.drop1_stage1.training, net.conv1_stage1.training) == (False, True)
    enter(net, phases_of("end-to-end", 3)[0])
    assert net.drop1_stage1.training
    enter(net, phases_of("stage-wise", 3)[1])
    leave(net)
    assert all(weight.requires_grad for weight in net.parameters())


def watch_states(monkeypatch):
    """The weights before the first update of each phase and at the end, in order."""
    states = []
    original = loop.enter

    def entering(net, phase):
        states.append({name: weight.detach().clone() for name, weight in net.state_dict().items()})
        original(net, phase)

    monkeypatch.setattr(loop, "enter", entering)
    return states


def held_out_loss(state, config, stage) -> float:
    """Loss of ``stage`` on 16 people the run does not see."""
    net = build("tiny", width=config.network.width).eval()
    net.load_state_dict(state)
    dataset = open_dataset("synthetic", "val", size=16)
    batch = next(iter(val_batches(dataset, config.augment, 16))).batch
    with torch.no_grad():
        maps = net(network_input(batch.image, batch.center))
    return float(stage_losses(maps, batch.joints, batch.visible, config.target)[stage - 1])


def test_stage_wise_moves_one_stage_at_a_time_and_it_learns(tmp_path, monkeypatch):
    states = watch_states(monkeypatch)
    config = small("stage-wise", 60, **{"solver.warmup": 0})
    result = train(config, tmp_path / "run")
    states.append({name: weight.detach().clone() for name, weight in result.net.state_dict().items()})
    stages = stage_of(result.net)
    for phase, (before, after) in enumerate(itertools.pairwise(states), start=1):
        for name, stage in stages.items():
            same = torch.equal(before[name], after[name])
            assert same == (stage != phase), (phase, name)
        assert held_out_loss(after, config, phase) < 0.9 * held_out_loss(before, config, phase)
    made = records(tmp_path / "run")
    assert [len(record["loss"]) for record in made] == [1] * 20 + [2] * 20 + [3] * 20
    assert [record["phase"] for record in made[::20]] == ["stage 1 alone", "stage 2 alone", "stage 3 alone"]
    assert len(result.tables) == 3
    assert (tmp_path / "run" / "checkpoints" / "best.pt").exists()


def test_then_end_to_end_goes_on_from_the_stacked_stages_with_fresh_momentum(tmp_path, monkeypatch):
    states = watch_states(monkeypatch)
    result = train(small("stage-wise-then-end-to-end", 12), tmp_path / "run")
    assert len(states) == 4
    final = result.net.state_dict()
    assert not any(torch.equal(states[3][name], final[name]) for name in final if name.endswith("weight"))
    saved = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    assert (saved.phase, saved.phase_start) == (3, 6)
    adam = saved.optimizers[1]["state"]
    assert {int(entry["step"]) for entry in adam.values()} == {6}  # of 12 updates: the last phase's alone


def test_last_stage_loss_has_gradients_everywhere_from_one_loss(tmp_path, monkeypatch):
    """The gradient is that of the last stage's loss: two runs whose earlier losses count would differ."""
    seen = []
    original = step.sharded_backward

    def backward(net, cores, batch, loss_of, weights, *more):
        values = original(net, cores, batch, loss_of, weights, *more)
        wanted = torch.autograd.grad(loss_of(slice(0, batch))[-1], list(net.parameters()))
        seen.extend(
            float((weight.grad - gradient).norm()) <= 1e-4 * float(gradient.norm())
            for weight, gradient in zip(net.parameters(), wanted, strict=True)
        )
        return values

    monkeypatch.setattr(step, "sharded_backward", backward)
    exact = {"solver.precision": "float32"}
    train(small("last-stage-loss", 2, **exact), tmp_path / "a")
    assert seen
    assert all(seen)
    seen.clear()
    train(small("end-to-end", 2, **exact), tmp_path / "b")
    assert not all(seen)
    assert [len(record["loss"]) for record in records(tmp_path / "a")] == [3, 3]  # all are still watched


def test_the_average_of_a_stage_forgets_the_fillers_it_began_with(tmp_path, monkeypatch):
    """Every phase is a training of its own: stage 2's average begins when stage 2 does."""
    moving = []
    original = loop.Average.update

    def watched(self, number):
        original(self, number)
        moving.append(
            dict(zip(self._names, self._weights, strict=True))["Mconv5_stage2.weight"].detach().clone()
        )

    monkeypatch.setattr(loop.Average, "update", watched)
    config = small("stage-wise", 12, **{"network.stages": 2, "solver.average": 0.999, "solver.warmup": 0})
    result = train(config, tmp_path / "run")
    average = moving[5]  # the filler: phase 1 has 6 updates and leaves stage 2 alone
    assert torch.equal(moving[0], average)
    for number, weight in enumerate(moving[6:]):
        decay = (1 + number) / (10 + number)
        average = decay * average + (1 - decay) * weight
    got = result.net.state_dict()["Mconv5_stage2.weight"]
    assert torch.allclose(got, average, atol=1e-6)
    assert not torch.allclose(got, moving[0], atol=1e-3)


@pytest.mark.parametrize("stop", [2, 3, 5, 7])
def test_a_run_stopped_inside_any_phase_goes_on_exactly(tmp_path, monkeypatch, stop):
    """Phases of 3, 3 and 6 updates; 3 stops exactly between two of them."""
    config = small("stage-wise-then-end-to-end", 12, **{"network.stages": 2})
    train(config, tmp_path / "whole")

    def stopping(self, *given):
        update(self, *given)
        self.stop.asked = self.state.iteration == stop

    update = loop._Run._update
    monkeypatch.setattr(loop._Run, "_update", stopping)
    assert train(config, tmp_path / "parts").stopped
    monkeypatch.undo()
    train(config, tmp_path / "parts", resume=True)
    whole, parts = records(tmp_path / "whole"), records(tmp_path / "parts")
    assert [(r["loss"], r["lr"], r["phase"]) for r in parts] == [
        (r["loss"], r["lr"], r["phase"]) for r in whole
    ]
    a = load_checkpoint(tmp_path / "whole" / "checkpoints" / "last.pt").model
    b = load_checkpoint(tmp_path / "parts" / "checkpoints" / "last.pt").model
    assert all(torch.equal(a[name], b[name]) for name in a)


def slowly(monkeypatch):
    """A clock that stands still but for 5 s an update and 30 s a validation."""
    clock = [0.0]

    def taking(seconds, work):
        def slow(*given, **named):
            clock[0] += seconds
            return work(*given, **named)

        return slow

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(loop, "predict_dataset", taking(30, loop.predict_dataset))
    monkeypatch.setattr(loop.Step, "__call__", taking(5, loop.Step.__call__))


def test_a_phase_that_the_clock_left_no_time_for_is_said(tmp_path, monkeypatch, capsys):
    """Its stage stays at its filler, under which those after it are trained."""
    slowly(monkeypatch)
    config = small("stage-wise", 1, validate_people=2, validate_every=0.3)
    train(replace(config, iterations=None, minutes=1.0), tmp_path / "run")  # phases of 20 s
    phases = [record["phase"] for record in records(tmp_path / "run")]
    assert phases == ["stage 1 alone"] * 4 + ["stage 3 alone"]
    assert [record["iteration"] for record in records(tmp_path / "run", "validation")] == [4, 5]
    printed = capsys.readouterr().out
    expected = "warning: no update in the phase stage 2 alone: validation took its time"
    assert printed.index(expected) < printed.index("phase 3 of 3")


def test_a_run_that_goes_on_does_not_score_the_same_weights_again(tmp_path, monkeypatch):
    """The multiples of validate_every that its last validation took are past by then."""
    slowly(monkeypatch)
    config = small("end-to-end", 1, validate_people=2, validate_every=0.1)
    config = replace(config, iterations=None, minutes=1.0)
    update = loop.Step.__call__

    def killed_at_the_third(self, batch, iteration, *rest):
        if iteration == 2:
            raise RuntimeError("killed")
        return update(self, batch, iteration, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Step, "__call__", killed_at_the_third)
        with pytest.raises(RuntimeError, match="killed"):
            train(config, tmp_path / "run")
    assert [record["iteration"] for record in records(tmp_path / "run", "validation")] == [2]
    train(config, tmp_path / "run", resume=True)
    assert [record["iteration"] for record in records(tmp_path / "run", "validation")] == [2, 3]


def test_what_cannot_work_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"unknown scheme 'stagewise'; did you mean stage-wise\?"):
        check(small("stagewise", 5))
    with pytest.raises(UserError, match="2 iterations are too few for 3 phases"):
        train(small("stage-wise", 2), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(small("stage-wise", 3), tmp_path / "run")
    with pytest.raises(UserError, match=r"another run: wanted iterations = 3, got 6"):
        train(small("stage-wise", 6), tmp_path / "run", resume=True)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("stages", [1, 3, 7])
def test_too_few_updates_are_told_without_going_through_all_of_them(monkeypatch, scheme, stages):
    phases = phases_of(scheme, stages, 0.3)
    for iterations in range(1, 60):
        reached = {phase_at(phases, update / iterations) for update in range(iterations)}
        few = pytest.raises(UserError) if len(reached) < len(phases) else nullcontext()
        with few:
            check_budget(phases, iterations)
    asked = []
    monkeypatch.setattr(schemes, "phase_at", lambda *given: asked.append(given) or phase_at(*given))
    check_budget(phases, 600_000)
    assert len(asked) < 50
