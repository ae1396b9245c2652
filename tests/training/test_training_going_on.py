"""A run goes on exactly where it was stopped, with its own settings."""

import json
from dataclasses import replace

import pytest
import torch
from small_runs import SMALL, losses, small

from cpm_repro.cli import main
from cpm_repro.config import schedule_change
from cpm_repro.data import open_dataset
from cpm_repro.errors import UserError
from cpm_repro.training import load_checkpoint, save_checkpoint, train
from cpm_repro.training.run_folder import RunFolder


def test_stopped_and_resumed_equals_never_stopped(tmp_path):
    """The schedule here does not depend on the budget, so that a run of 3 is the beginning of a run of 8."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(small(8, **{"solver.schedule": "step"}), whole)
    train(small(3, **{"solver.schedule": "step"}), parts)
    train(small(8, **{"solver.schedule": "step"}), parts, resume=True)
    assert losses(parts) == losses(whole)
    a = load_checkpoint(whole / "checkpoints" / "last.pt").model
    b = load_checkpoint(parts / "checkpoints" / "last.pt").model
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_killed_before_its_first_checkpoint_starts_anew(tmp_path):
    config = small(2)
    folder = RunFolder(tmp_path / "run")
    folder.start(config, resume=False)
    folder.append({"kind": "train", "iteration": 1, "loss": [9.0, 9.0, 9.0]})
    folder.leave()
    train(config, tmp_path / "run", resume=True)
    made = losses(tmp_path / "run")
    assert len(made) == 2
    assert made[0] != [9.0, 9.0, 9.0]


def test_resume_takes_the_runs_own_settings_and_refuses_others(tmp_path, capsys):
    run = tmp_path / "run"
    settings = [f"--set={name}={json.dumps(value)}" for name, value in SMALL.items()]
    assert main(["train", "--iterations", "1", "--seed", "4", "--out", str(run), *settings]) == 0
    assert main(["train", "--iterations", "2", "--resume", "--out", str(run)]) == 0
    assert len(losses(run)) == 2
    capsys.readouterr()
    assert main(["train", "--iterations", "3", "--resume", "--out", str(run), "--seed", "5"]) == 2
    assert "belongs to another run: wanted seed = 4, got 5" in capsys.readouterr().err
    assert main(["train", "--resume", "--out", str(run), "--arch", "lsp_6stage"]) == 2
    assert "wanted network.arch = tiny, got lsp_6stage" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["accumulate=2", "recompute=true", "compile=true"])
def test_a_run_that_needs_less_memory_goes_on(tmp_path, capsys, change):
    """What the memory warning advises leaves the update as it is."""
    run = str(tmp_path / "run")
    settings = [f"--set={name}={json.dumps(value)}" for name, value in SMALL.items()]
    assert main(["train", "--iterations", "1", "--out", run, *settings]) == 0
    capsys.readouterr()
    assert main(["train", "--iterations", "2", "--resume", "--out", run, f"--set=solver.{change}"]) == 0
    assert len(losses(tmp_path / "run")) == 2
    said = capsys.readouterr().out
    assert "note: the budget was 1 iterations and is 2 iterations: the schedule linear follows it" in said


def test_an_optimisers_state_of_an_older_version_is_one_line(tmp_path):
    """Which weights Muon has and which AdamW changed once: torch's own words would be a traceback."""
    train(small(1), tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    saved = load_checkpoint(last)
    saved.optimizers[0]["param_groups"][0]["params"].pop()
    for path in last.parent.iterdir():
        save_checkpoint(path, saved)
    with pytest.raises(UserError, match=r"\.pt: its optimiser's state does not fit the optimiser of this"):
        train(small(2), tmp_path / "run", resume=True)


def test_another_budget_is_no_other_schedule_where_rates_go_by_the_iteration():
    linear, step = small(3), small(3, **{"solver.schedule": "step"})
    assert schedule_change(linear, linear) is None
    assert schedule_change(step, replace(step, iterations=8)) is None
    minutes = replace(linear, iterations=None, minutes=1.5)
    assert "was 3 iterations and is 1.5 minutes: the schedule linear" in schedule_change(linear, minutes)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    train(small(1), tmp_path / "run")
    with pytest.raises(UserError, match=r"another run: wanted network\.stages = None, got 2"):
        train(small(2, **{"network.stages": 2}), tmp_path / "run", resume=True)


def test_a_run_that_goes_on_with_other_people_says_so(tmp_path, monkeypatch, capsys):
    """Somebody has taken one away since: the permutations are others, and no loss would tell."""
    train(small(1), tmp_path / "run")
    train(small(2), tmp_path / "run", resume=True)
    assert "people to train on and has" not in capsys.readouterr().out
    kind = type(open_dataset("synthetic", "train"))
    monkeypatch.setattr(kind, "__len__", lambda self, length=kind.__len__: length(self) - 1)
    train(small(3), tmp_path / "run", resume=True)
    said = capsys.readouterr().out
    assert "note: synthetic had 100000 people to train on and has 99999: the updates to come" in said


def test_the_best_is_looked_for_anew_among_other_people(tmp_path, capsys):
    """A good score of few people would keep every later state from being the best."""
    train(small(1), tmp_path / "run")
    best = tmp_path / "run" / "checkpoints" / "best.pt"
    for path in best.parent.iterdir():
        saved = load_checkpoint(path)
        saved.best = 99.0
        save_checkpoint(path, saved)
    train(small(2), tmp_path / "run", resume=True)
    assert load_checkpoint(best).iteration == 1
    train(small(3, validate_people=10), tmp_path / "run", resume=True)
    assert "scores are of other people than before" in capsys.readouterr().out
    assert load_checkpoint(best).iteration == 3
    train(small(3, validate_people=10), tmp_path / "run", resume=True)
    assert load_checkpoint(best).best < 99


def test_a_finished_run_asked_to_go_on_is_scored_once(tmp_path):
    train(small(2), tmp_path / "run")
    train(small(2), tmp_path / "run", resume=True)
    kinds = [record["kind"] for record in RunFolder(tmp_path / "run").records()]
    assert kinds == ["train", "train", "validation"]
