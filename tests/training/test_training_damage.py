"""What a kill, a full disk or a damaged file leaves of a run, and what goes on from it."""

import pickle
import resource
import signal

import pytest
import torch
from small_runs import losses, small

from cpm_repro.config import preset
from cpm_repro.errors import EnvironmentFailure, UserError
from cpm_repro.training import load_checkpoint, save_checkpoint, train
from cpm_repro.training.run_folder import RunFolder


def damage_file(path, damage) -> None:
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        # One bit in the middle, inside a weight: torch itself reads such a file without a word.
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif damage == "text":
        path.write_text("not a checkpoint")
    else:
        path.write_bytes(pickle.dumps({"format": print}, protocol=2))


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "pickle"])
def test_a_damaged_checkpoint_gives_way_to_the_newest_intact_one(tmp_path, capsys, damage):
    step = {"solver.schedule": "step"}
    train(small(4, **step), tmp_path / "whole")
    run = tmp_path / "run"
    train(small(2, **step), run)
    train(small(3, **{**step, "validate_every": 1.0}), run, resume=True)  # best.pt of 2 or 3 updates
    checkpoints = run / "checkpoints"
    save_checkpoint(checkpoints / "previous.pt", load_checkpoint(checkpoints / "best.pt"))
    damage_file(checkpoints / "last.pt", damage)
    capsys.readouterr()
    train(small(4, **step), run, resume=True)
    said = capsys.readouterr().out
    assert "last.pt" in said
    assert "put aside as last.damaged" in said
    assert "going on after iteration" in said
    assert losses(run) == losses(tmp_path / "whole")


def test_without_any_intact_checkpoint_nothing_is_done(tmp_path):
    run = tmp_path / "run"
    train(small(1), run)
    files = {path: damage_file(path, "cut") for path in (run / "checkpoints").iterdir()}
    before = {path: path.read_bytes() for path in files}
    with pytest.raises(UserError, match=r"last\.pt: not an intact.*; 2 older ones are damaged too"):
        train(small(2), run, resume=True)
    assert {path: path.read_bytes() for path in files} == before


@pytest.mark.parametrize("limit", [1000, 4096, 20_000, 60_000])
def test_a_disk_that_fills_up_keeps_the_last_checkpoint(tmp_path, limit):
    """RLIMIT_FSIZE makes a write fail midway as a full disk does; the older checkpoint stays whole."""
    run = tmp_path / "run"
    train(small(1), run)
    path = run / "checkpoints" / "last.pt"
    before = path.read_bytes()
    assert len(before) > limit
    saved = load_checkpoint(path)
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old_limit[1]))
    try:
        with pytest.raises(EnvironmentFailure, match=r"cannot write .*last\.pt"):
            save_checkpoint(path, saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir() if file.name.startswith(".")] == []


def test_the_best_state_survives_a_kill_right_after_it_was_saved(tmp_path):
    """best.pt knows a score that last.pt does not: a worse state must not take its place."""
    run = tmp_path / "run"
    train(small(2), run)
    best = load_checkpoint(run / "checkpoints" / "best.pt")
    best.best = 99.0
    save_checkpoint(run / "checkpoints" / "best.pt", best)
    train(small(4), run, resume=True)
    assert load_checkpoint(run / "checkpoints" / "best.pt").best == 99.0


def test_a_weight_changed_under_its_digest_is_not_loaded(tmp_path):
    from cpm_repro.inference.weights import load

    train(small(1), tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "last.pt"
    values = torch.load(path, weights_only=True)
    values["model"]["conv1_1.weight"][0, 0, 0, 0] += 1
    torch.save(values, path)
    with pytest.raises(UserError, match="does not match its digest"):
        load(path)


def test_metrics_cut_by_a_kill_are_read_up_to_the_cut(tmp_path):
    folder = RunFolder(tmp_path)
    folder.append({"kind": "train", "iteration": 1, "loss": [1.0]})
    folder.append({"kind": "train", "iteration": 2, "loss": [2.0]})
    with folder.metrics.open("a") as file:
        file.write('{"kind": "train", "iter')
    assert [record["iteration"] for record in folder.records()] == [1, 2]
    folder.rewind(1)
    assert [record["iteration"] for record in folder.records()] == [1]


def test_resuming_removes_what_a_kill_during_a_save_left(tmp_path):
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    strays = [tmp_path / ".config.json.ab12.tmp", checkpoints / ".last.pt.cd34.tmp"]
    kept = [tmp_path / "notes.tmp", checkpoints / "last.pt"]
    for path in (*strays, *kept):
        path.write_bytes(b"half")
    RunFolder(tmp_path).start(preset("tiny"), resume=True)
    assert not any(path.exists() for path in strays)
    assert all(path.read_bytes() == b"half" for path in kept)
