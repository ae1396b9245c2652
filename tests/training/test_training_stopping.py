"""Real processes that are killed, asked to stop, or find the disk full: nothing finished is ever lost."""

import json
import os
import random
import resource
import signal
import time
from dataclasses import replace

import pytest
from processes import Processes, finish, wait_for

from cpm_repro.config import override, preset
from cpm_repro.errors import EnvironmentFailure
from cpm_repro.training import load_checkpoint, train
from cpm_repro.training.run_folder import RunFolder

SMALL = {
    "network.width": 0.05,
    "augment.crop": 64,
    "solver.batch": 4,
    "workers": 1,
    "validate_people": 4,
    "validate_every": 0.2,
}


def losses(folder) -> list[list[float]]:
    return [record["loss"] for record in RunFolder(folder).records() if record["kind"] == "train"]


def command(out, iterations: int, *more: str) -> list[str]:
    settings = [f"--set={name}={json.dumps(value)}" for name, value in SMALL.items()]
    return ["train", "--iterations", str(iterations), "--seed", "5", "--out", str(out), *settings, *more]


@pytest.fixture
def start(tmp_path):
    processes = Processes(tmp_path)
    yield processes.start
    processes.close()


@pytest.mark.parametrize(
    ("kills", "iterations"),
    [(2, 40), pytest.param(20, 400, marks=[pytest.mark.slow, pytest.mark.timeout(1500)])],
)
def test_kill_9_at_random_moments_and_resume_gives_the_same_losses_bit_for_bit(
    tmp_path, start, kills, iterations
):
    """Killed while starting, stepping, saving or validating, as chance will have it; then resumed."""
    options = ["--checkpoint-iterations", "2"]
    assert finish(start(command(tmp_path / "whole", iterations, *options))) == 0
    chance = random.Random(7)
    killed, moments = tmp_path / "killed", []
    for index in range(kills):
        process = start(command(killed, iterations, *options, "--resume"))
        before = len(losses(killed))
        # Most kills fall into the work itself, one in four anywhere since the start.
        if index % 4 != 1:
            at = before + chance.randint(1, iterations // (2 * kills))
            wait_for(lambda at=at: len(losses(killed)) >= at, process)
        time.sleep(chance.uniform(0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        moments.append(len(losses(killed)))
    assert 0 < moments[-1] < iterations, "the kills came too early or too late to show anything"
    assert finish(start(command(killed, iterations, *options, "--resume"))) == 0
    assert losses(killed) == losses(tmp_path / "whole")
    a, b = (load_checkpoint(tmp_path / run / "checkpoints" / "last.pt") for run in ("whole", "killed"))
    assert all(a.model[name].equal(b.model[name]) for name in a.model)
    assert list((killed / "checkpoints").glob(".*")) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_within_one_step_and_exits_0(tmp_path, start, number):
    run = tmp_path / "run"
    process = start(command(run, 5000))
    wait_for(lambda: len(losses(run)) >= 3, process)
    at = len(losses(run))
    os.kill(process.pid, number)
    assert finish(process, 60) == 0
    made = len(losses(run))
    assert at <= made <= at + 2  # the one in hand, and one that may have ended before the signal came
    assert load_checkpoint(run / "checkpoints" / "last.pt").iteration == made
    log = (tmp_path / "log.txt").read_text()
    assert f"stopped and saved after iteration {made}; go on with --resume" in log
    assert "Traceback" not in log
    assert not (run / "report.md").exists()


def test_a_stop_during_validation_does_not_wait_for_its_end(tmp_path, monkeypatch):
    """The validation is given up, and made again, before anything else, by the resumed run."""
    from cpm_repro.training import loop, validate

    config = replace(preset("tiny"), minutes=None, iterations=4, validate_every=0.5)
    config = override(config, {**SMALL, "validate_every": 0.5, "validate_people": 40})
    original = validate.val_batches

    def stopping(*arguments):
        for index, item in enumerate(original(*arguments)):
            if index == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield item

    monkeypatch.setattr(validate, "val_batches", stopping)
    assert loop.train(config, tmp_path / "run").stopped
    monkeypatch.undo()
    train(config, tmp_path / "run", resume=True)
    kinds = [(r["kind"], r["iteration"]) for r in RunFolder(tmp_path / "run").records()]
    assert kinds == [
        ("train", 1), ("train", 2), ("validation", 2), ("train", 3), ("train", 4), ("validation", 4),
    ]  # fmt: skip


@pytest.mark.parametrize("limit", [3000, 60_000])
def test_a_disk_that_fills_up_during_training_stops_it_and_it_goes_on_later(tmp_path, limit):
    """RLIMIT_FSIZE makes a write fail midway as a full disk does: of metrics, of a checkpoint."""
    run = tmp_path / "run"
    config = replace(preset("tiny"), minutes=None, iterations=12, validate_every=1.0)
    config = override(config, {**SMALL, "validate_every": 1.0, "checkpoint_iterations": 2})
    config = override(config, {"solver.schedule": "step"})
    train(config, tmp_path / "whole")
    train(replace(config, iterations=4), run)
    before = (run / "checkpoints" / "last.pt").read_bytes()
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old_limit[1]))
    try:
        with pytest.raises(EnvironmentFailure, match="cannot write "):
            train(config, run, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)
    assert (run / "checkpoints" / "last.pt").read_bytes() == before
    assert json.loads((run / "config.json").read_text())["iterations"] in (4, 12)
    train(config, run, resume=True)
    assert losses(run) == losses(tmp_path / "whole")
