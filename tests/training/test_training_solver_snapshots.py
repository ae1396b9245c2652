"""Snapshots of ``cpm train --solver``: when they are written and not, and what goes on from them."""

import json
import os
import signal

import numpy as np
import pytest
from solver_prototxts import FLIC_AT_64, SOLVER, metrics, train, write

from cpm_repro.caffe import read_caffemodel, read_solverstate
from cpm_repro.caffe.solverstate import write_solverstate
from cpm_repro.cli import main
from cpm_repro.config import preset
from cpm_repro.errors import UserError
from cpm_repro.training import solver_run
from cpm_repro.training.report import report_text
from cpm_repro.training.run_folder import RunFolder
from cpm_repro.training.solver_plan import read_plan
from cpm_repro.training.solver_run import train_solver
from cpm_repro.training.solver_step import SolverStep


@pytest.mark.parametrize("arch", ["tiny", "flic_4stage"])
def test_a_snapshot_is_gone_on_from_exactly(tmp_path, arch):
    """flic_4stage has dropout; iter_size takes two batches an update."""
    changes = FLIC_AT_64 if arch == "flic_4stage" else {}
    solver = write(tmp_path, SOLVER + "iter_size: 2", arch, width=0.03, **changes)
    whole = train(solver, tmp_path / "whole", data="synthetic")
    train(solver, tmp_path / "parts", data="synthetic", iterations=2)
    state = tmp_path / "parts" / "snapshots" / "pose_iter_2.solverstate"
    parts = train(solver, tmp_path / "parts", data="synthetic", snapshot=state)
    assert [record["loss"] for record in metrics(tmp_path / "parts")] == [
        record["loss"] for record in metrics(tmp_path / "whole")
    ]
    a, b = read_caffemodel(whole), read_caffemodel(parts)
    assert all(np.array_equal(x, y) for name in a for x, y in zip(a[name], b[name], strict=True))
    ends = [read_solverstate(path.with_suffix(".solverstate")) for path in (whole, parts)]
    assert all(np.array_equal(x, y) for x, y in zip(ends[0].history, ends[1].history, strict=True))


def test_weights_that_are_not_finite_are_neither_scored_nor_saved(tmp_path, monkeypatch):
    """They may be ruined after the last loss that would show it."""
    step = SolverStep.__call__

    def ruined_by_the_third(self, batches, iteration):
        done = step(self, batches, iteration)
        if iteration == 2:
            next(self.net.parameters()).data.view(-1)[0] = float("inf")
        return done

    monkeypatch.setattr(SolverStep, "__call__", ruined_by_the_third)
    run = tmp_path / "run"
    expected = (
        r"the weights are no longer finite after iteration 3: lower base_lr \(the rate is now 2.66e-05\); "
        r"the last snapshot is .*pose_iter_2\.solverstate; the last update's batch, .*iteration_2\.json"
    )
    with pytest.raises(UserError, match=expected):
        train(write(tmp_path), run, data="synthetic", iterations=3)
    assert sorted(path.name for path in (run / "snapshots").iterdir()) == [
        "pose_iter_2.caffemodel", "pose_iter_2.solverstate",
    ]  # fmt: skip
    assert metrics(run, "validation") == []
    known = json.loads((run / "nonfinite" / "iteration_2.json").read_text())
    assert known["not_finite"] == "weights"
    assert known["lr"] == pytest.approx(8e-5 * 0.333)
    assert known["loss_per_stage"] == metrics(run)[2]["loss"]
    assert sum(isinstance(value, str) for value in known["weight_norm"].values()) == 1


def test_the_weights_of_a_snapshot_are_those_beside_it_and_all_of_them(tmp_path):
    """Where a moved run's solverstate says, another run may have its own by now."""
    solver = write(tmp_path)
    first = train(solver, tmp_path / "run", data="synthetic", iterations=2)
    (tmp_path / "run").rename(tmp_path / "old")
    train(solver, tmp_path / "run", data="synthetic", iterations=2, seed=9)
    snapshot = tmp_path / "old" / "snapshots" / "pose_iter_2.solverstate"
    assert read_solverstate(snapshot).learned_net == str(first)
    went_on = train(solver, tmp_path / "old", data="synthetic", snapshot=snapshot, iterations=3)
    whole = train(solver, tmp_path / "whole", data="synthetic", iterations=3)
    a, b = read_caffemodel(whole), read_caffemodel(went_on)
    assert all(np.array_equal(x, y) for name in a for x, y in zip(a[name], b[name], strict=True))
    write(tmp_path, **{'name: "conv1_1"': 'name: "other"'})
    with pytest.raises(UserError, match=r"pose_iter_2\.caffemodel lack those of other: another net's"):
        train(solver, tmp_path / "old", data="synthetic", snapshot=snapshot)


def test_the_report_of_a_run_taken_up_elsewhere_tells_what_was_made_here(tmp_path):
    """Caffe's 50,000 iterations took no second of this run."""
    solver = write(tmp_path, SOLVER.replace("max_iter: 5", "max_iter: 50002"))
    model = train(solver, tmp_path / "run", data="synthetic", iterations=1)
    late = tmp_path / "caffe_iter_50000.solverstate"
    write_solverstate(late, 50_000, read_solverstate(model.with_suffix(".solverstate")).history, str(model))
    run = tmp_path / "here"
    (tmp_path / model.name).write_bytes(model.read_bytes())
    finished = train_solver(solver, run, data="synthetic", snapshot=late, validate_people=3).finished
    folder = RunFolder(run)
    text = report_text(finished, folder.records(), folder.environment())
    assert (
        "| updates | 50002 of 2 people, Caffe's SGD; here the last 2, of which the next lines are |" in text
    )
    (rate,) = [line for line in text.splitlines() if line.startswith("| samples/s | ")]
    assert float(rate.split("|")[2].split(",")[0]) == pytest.approx(2 * 2 / finished.seconds, abs=0.06)


def test_a_run_stopped_before_its_last_scores_is_gone_on_with(tmp_path, monkeypatch, capsys):
    solver = write(tmp_path)
    run = tmp_path / "run"
    monkeypatch.setattr(solver_run._SolverRun, "_validate", lambda *_: False)
    model = train(solver, run, data="synthetic", iterations=2)
    monkeypatch.undo()
    snapshot = model.with_suffix(".solverstate")
    printed = capsys.readouterr().out
    assert "stopped before the scores, after all iterations; go on with the same options and" in printed
    assert f"and --snapshot {snapshot}" in printed
    again = {"data": "synthetic", "snapshot": snapshot, "iterations": 2, "validate_people": 3}
    finished = train_solver(solver, run, **again).finished
    assert len(finished.tables) == 3
    assert [r["iteration"] for r in metrics(run)] == [1, 2]
    assert len(metrics(run, "validation")) == 1
    with pytest.raises(UserError, match="is of iteration 2, and the run ends at 2"):
        train_solver(solver, run, **again)


def test_a_run_that_made_no_update_leaves_its_folder_to_the_next(tmp_path, monkeypatch):
    def too_large(_):
        raise UserError("too little memory")

    monkeypatch.setattr(solver_run._SolverRun, "_estimate", too_large)
    with pytest.raises(UserError, match="too little memory"):
        train(write(tmp_path), tmp_path / "run", data="synthetic")
    monkeypatch.undo()
    train(write(tmp_path), tmp_path / "run", data="synthetic", iterations=1)
    assert len(metrics(tmp_path / "run")) == 1


def test_what_a_solver_says_of_its_end_is_answered(tmp_path):
    plan = read_plan(write(tmp_path, SOLVER + "snapshot_after_train: false"))
    assert plan.remarks == ("the last state is written although snapshot_after_train is false",)


def test_sigterm_writes_a_snapshot_and_the_run_goes_on_exactly(tmp_path, monkeypatch, capsys):
    solver = write(tmp_path)
    whole = train(solver, tmp_path / "whole", data="synthetic")
    step = SolverStep.__call__

    def killed_at_3(self, batches, iteration):
        if iteration == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batches, iteration)

    monkeypatch.setattr(SolverStep, "__call__", killed_at_3)
    stopped = train(solver, tmp_path / "parts", data="synthetic")
    monkeypatch.undo()
    assert stopped.name == "pose_iter_3.caffemodel"
    assert "stopped; go on with the same options and --snapshot" in capsys.readouterr().out
    parts = train(solver, tmp_path / "parts", data="synthetic", snapshot=stopped.with_suffix(".solverstate"))
    a, b = read_caffemodel(whole), read_caffemodel(parts)
    assert all(np.array_equal(x, y) for name in a for x, y in zip(a[name], b[name], strict=True))
    assert [r["iteration"] for r in metrics(tmp_path / "parts")] == [1, 2, 3, 4, 5]


def test_the_records_of_another_run_are_not_cut_off(tmp_path, capsys):
    """Of a preset's by a snapshot, of a prototxt's by --resume: both have runs/mpii_6stage by default."""
    solver, out = write(tmp_path), tmp_path / "run"
    model = train(solver, tmp_path / "other", data="synthetic", iterations=2)
    snapshot = model.with_suffix(".solverstate")
    folder = RunFolder(out)
    folder.start(preset("tiny"), resume=False)
    folder.append({"kind": "train", "iteration": 1})
    folder.leave()
    before = folder.metrics.read_text()
    with pytest.raises(UserError, match=f"{out} holds a run of the preset tiny: choose another --out"):
        train(solver, out, data="synthetic", snapshot=snapshot)
    folder.config.unlink()  # as if a prototxt's, begun elsewhere
    with pytest.raises(UserError, match=f"{out} holds another run than that of {snapshot}: choose"):
        train(solver, out, data="synthetic", snapshot=snapshot, iterations=4)
    assert main(["train", "--preset", "tiny", "--resume", "--out", str(out)]) == 2
    assert f"{out} holds a run of a solver prototxt: choose another --out, or go on with --solver" in (
        capsys.readouterr().err
    )
    assert folder.metrics.read_text() == before
    for made in ([3], [3, 4]):  # killed before its own first snapshot, a run begins again at the other's
        train(solver, tmp_path / "new", data="synthetic", snapshot=snapshot, iterations=made[-1])
        assert [record["iteration"] for record in metrics(tmp_path / "new")] == made
