"""Divergence that stays finite: when a loss has risen and stayed, and who says so."""

import json
from dataclasses import replace
from statistics import median

import pytest

from cpm_repro.cli import main
from cpm_repro.training import journal as module
from cpm_repro.training.journal import Journal, Update
from cpm_repro.training.report import report_text
from cpm_repro.training.rising import Losses
from cpm_repro.training.run_folder import RunFolder

HERE = {"date": "", "commit": "", "gpu": "", "processor": "", "threads": 1, "python": "", "torch": ""}


def said_of(values):
    """What is said after each update of a run of one stage."""
    losses = Losses()
    return [losses.add([value]) for value in values]


def test_a_loss_that_stays_at_more_than_three_times_its_lowest_has_risen():
    said = said_of([30.0] * 20 + [100.0] * 20)
    assert [rise is not None for rise in said] == [False] * 25 + [True] * 15  # six of ten are high
    assert (said[-1].stage, said[-1].loss, said[-1].lowest) == (1, 100.0, 30.0)


@pytest.mark.parametrize(
    "values",
    [
        [30.0] * 20 + [89.0] * 20,  # less than three times
        [30.0] * 20 + [3000.0] * 5 + [30.0] * 20,  # a few odd batches
        [1027.0] * 10 + [500.0, 200.0, 80.0, 33.0] + [30.0] * 20,  # the release's initialisation
        [33.0] * 20 + [0.1] * 20 + [1.0] * 20,  # known by heart
        [30.0] * 5 + [3000.0] * 4,  # fewer updates than have a median
        [0.0] * 30,
    ],
)
def test_what_is_no_divergence(values):
    assert not any(said_of(values))


def test_only_stages_whose_losses_are_trained_count_and_the_worst_is_named():
    losses, few = Losses(), Losses()
    for value in [1.0] * 10 + [10.0] * 10:
        every = losses.add([30.0, 30 * value, 40 * value])
        some = few.add([300 * value, 30.0, 20.0], trained=(2, 3))
    assert every.stage == 2
    assert some is None


def update(number, loss):
    return Update(number, "end to end", 1.0, 0.5, {"lr": 1e-3}, [30.0, loss], 60, 1.0, 0.0, 0.1)


def test_it_is_said_once_recorded_and_in_the_report(tmp_path, capsys):
    folder = RunFolder(tmp_path)
    journal = Journal(folder, writes=True)
    for number in range(1, 41):
        journal.update(update(number, 20.0 if number <= 20 else 200.0))
    (warning,) = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert "the loss of stage 2 is 200, 10.0 times the lowest it was (20; medians of 10" in warning
    assert "lower the learning rate (now 1.00e-03)" in warning
    records = folder.records()
    assert [record["iteration"] for record in records if module.RISEN in record] == list(range(26, 41))
    run = type("Run", (), {"tables": [], "title": "run", "data": "", "network": "", "crop": "", "batch": 1,
                           "optimizer": "", "scheme": "", "iterations": 40, "seconds": 1.0})  # fmt: skip
    assert "The run diverged, as it seems: at its end the loss of stage 2 is 200" in report_text(
        run, records, HERE
    )
    assert "diverged" not in report_text(run, records[:20], HERE)
    # 40 updates of one person in a second, of 0.1 s each by themselves: the clock of this journal is made up
    assert "| samples/s | 40.0, 10.0 while updating |" in report_text(run, records, HERE)


def test_the_warning_names_the_rates_of_all_optimisers(tmp_path, capsys):
    journal = Journal(RunFolder(tmp_path), writes=True)
    for number in range(1, 41):
        made = update(number, 20.0 if number <= 20 else 200.0)
        journal.update(replace(made, rates={"muon_lr": 0.015, "lr": 2e-3}))
    said = capsys.readouterr().out
    assert "lower the learning rates solver.muon_lr (now 1.50e-02) and solver.lr (now 2.00e-03)" in said


def test_a_resumed_run_remembers_how_low_the_loss_was(tmp_path, capsys):
    folder = RunFolder(tmp_path)
    before = Journal(folder, writes=True)
    for number in range(1, 21):
        before.update(update(number, 20.0))
    after = Journal(folder, writes=True)
    after.recall("end to end", 20.0, 0.5)
    for number in range(21, 31):
        after.update(update(number, 200.0))
    assert "10.0 times the lowest it was (20;" in capsys.readouterr().out


def test_a_run_that_diverges_and_stays_finite_warns(tmp_path, capsys):
    """At a rate 250 times too large; that the losses did rise is looked at too."""
    run = tmp_path / "run"
    small = ["--width=0.05", "--batch=2", "--workers=0", "--set=augment.crop=64", "--set=validate_people=2"]
    wrong = ["--lr=0.5", "--set=solver.optimizer=adamw", "--set=solver.schedule=step", "--iterations=40"]
    assert main(["train", "--data=synthetic", "--out", str(run), *small, *wrong]) == 0
    printed = capsys.readouterr().out
    made = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in made if record["kind"] == "train"]
    stages = list(zip(*losses, strict=True))
    assert any(median(stage[-10:]) > 3 * median(stage[:10]) for stage in stages)
    assert "warning: the loss of stage " in printed
    assert "The run diverged, as it seems" in (run / "report.md").read_text()
