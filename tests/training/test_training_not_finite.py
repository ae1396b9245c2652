"""Losses, gradients and weights that are no longer finite end a run, and what is known is kept."""

import json

import pytest
import torch
from small_runs import losses, small

from cpm_repro.errors import UserError
from cpm_repro.training import load_checkpoint, loop, train
from cpm_repro.training.run_folder import RunFolder


def test_a_diverging_run_says_what_to_do(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(UserError, match=r"no longer finite.*lower the learning rate.*nonfinite"):
        train(small(60, **{"solver.lr": 1e30, "solver.optimizer": "adamw"}), run)
    (path,) = (run / "nonfinite").glob("*.json")
    known = json.loads(path.read_text())
    assert known["iteration"] == len(losses(run))
    assert known["not_finite"] == "loss"
    assert len(known["loss_per_stage"]) == 3
    assert set(known["gradient_norm"]) == set(known["weight_norm"]) >= {"conv1_1.weight"}
    assert any(isinstance(value, str) for value in known["loss_per_stage"])
    batch = torch.load(path.with_name(known["batch"]), weights_only=True)
    assert batch["image"].shape == (4, 64, 64, 3)
    assert batch["joints"].shape[0] == 4


def test_a_diverging_run_of_muon_names_both_rates(tmp_path):
    """--lr is AdamW's, which has the few layers at the network's edges: it is not what diverged here."""
    run = tmp_path / "run"
    expected = (
        r"lower the learning rates solver\.muon_lr \(now 1\.\d\de\+04\) and solver\.lr \(now 2\.\d\de-03\)"
    )
    changes = {"solver.muon_lr": 1.6e4, "solver.lr": 2.2e-3, "solver.warmup": 0, "validate_every": 1.0}
    with pytest.raises(UserError, match=f"no longer finite at iteration.*{expected}"):
        train(small(60, **changes), run)
    (path,) = (run / "nonfinite").glob("*.json")
    known = json.loads(path.read_text())
    made = [record for record in RunFolder(run).records() if record["kind"] == "train"]
    for record in (known, *made):
        assert record["muon_lr"] / record["lr"] == pytest.approx(1.6e4 / 2.2e-3)


def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_touched(tmp_path, monkeypatch):
    """The loss may be finite and its gradient not; such an update would lose every weight."""
    from cpm_repro.training import step

    original = step.sharded_backward

    def backward(net, *rest, **more):
        values = original(net, *rest, **more)
        if len(losses(tmp_path / "run")) == 2:
            net.conv1_1.weight.grad[0, 0, 0, 0] = float("nan")
        return values

    monkeypatch.setattr(step, "sharded_backward", backward)
    with pytest.raises(UserError, match="the gradient is no longer finite at iteration 2"):
        train(small(5, checkpoint_iterations=1), tmp_path / "run")
    saved = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    assert saved.iteration == 2
    assert all(torch.isfinite(weight).all() for weight in saved.model.values())
    known = json.loads((tmp_path / "run" / "nonfinite" / "iteration_2.json").read_text())
    assert known["gradient_norm"]["conv1_1.weight"] == "nan"
    assert known["gradient_norm"]["conv1_2.weight"] > 0


def test_weights_that_are_not_finite_never_replace_a_checkpoint(tmp_path, monkeypatch):
    from cpm_repro.training import recipe

    original = recipe.Optimizers.step

    def ruin(self, factor):
        original(self, factor)
        if len(losses(tmp_path / "run")) == 2:
            self.members[0].param_groups[0]["params"][0].data.fill_(float("inf"))

    monkeypatch.setattr(recipe.Optimizers, "step", ruin)
    expected = (
        r"weights are no longer finite after iteration 3: .*intact checkpoint is of iteration 2, .*last\.pt"
    )
    with pytest.raises(UserError, match=expected):
        train(small(5, checkpoint_iterations=1), tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt").iteration == 2


def test_weights_that_are_not_finite_are_not_scored_and_what_ruined_them_is_saved(tmp_path):
    """At this rate AdamW's first step is infinite, of a loss and a gradient that are not."""
    run = tmp_path / "run"
    changes = {"solver.lr": 1e38, "solver.warmup": 0, "validate_every": 0.25}
    with pytest.raises(UserError, match=r"weights are no longer finite after iteration 1: ") as caught:
        train(small(2, **changes), run)
    said = str(caught.value)
    assert "and solver.lr (now 1.00e+38); there is no checkpoint yet; the last update's batch" in said
    assert not (run / "checkpoints").exists()
    (record,) = RunFolder(run).records()  # of the update; none of a validation
    known = json.loads((run / "nonfinite" / "iteration_0.json").read_text())
    assert str(run / "nonfinite" / "iteration_0.json") in said
    assert known["not_finite"] == "weights"
    assert known["loss_per_stage"] == record["loss"]
    assert all(value >= 0 for value in known["gradient_norm"].values())
    assert any(isinstance(value, str) for value in known["weight_norm"].values())
    assert torch.load(run / "nonfinite" / known["batch"], weights_only=True)["image"].shape == (4, 64, 64, 3)


def test_weights_that_were_not_finite_from_the_start_are_said_to_be(tmp_path, monkeypatch):
    """Asked to stop before the first update, a run saves; there is no update to tell of."""

    def ruined(net, *_):
        net.conv1_1.weight.data.fill_(float("nan"))
        return ""

    monkeypatch.setattr(loop, "start_from", ruined)
    monkeypatch.setattr(loop._Run, "_over", lambda run: setattr(run, "stopping", True) or True)
    with pytest.raises(UserError, match="not finite before any update was made; there is no checkpoint yet"):
        train(small(2), tmp_path / "run")
