"""The loop: it learns, it stops and goes on exactly, and it refuses what cannot work."""

import json
import pickle
import resource
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from tf32_settings import tf32_allowed, tf32_flags

from cpm_repro.cli import main
from cpm_repro.config import override, preset, schedule_change
from cpm_repro.data import open_dataset
from cpm_repro.device import float32_products
from cpm_repro.errors import EnvironmentFailure, UserError
from cpm_repro.training import load_checkpoint, loop, save_checkpoint, stage_losses, train
from cpm_repro.training.run_folder import RunFolder
from cpm_repro.training.sharding import Cores, sharded_backward

SMALL = {
    "network.width": 0.05,
    "augment.crop": 64,
    "solver.batch": 4,
    "workers": 1,
    "validate_people": 20,
}


def small(iterations: int, **changes):
    config = replace(preset("tiny"), name="small", minutes=None, iterations=iterations, validate_every=1.0)
    return override(config, {**SMALL, **changes})


def losses(folder) -> list[list[float]]:
    return [record["loss"] for record in RunFolder(folder).records() if record["kind"] == "train"]


def test_a_run_leaves_its_folder_and_its_loss_falls(tmp_path):
    result = train(small(30), tmp_path / "run")
    made = losses(tmp_path / "run")
    assert len(made) == 30
    assert np.sum(made[-5:]) < np.sum(made[:5])
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "checkpoints",
    }
    assert len(result.tables) == 3
    assert 0 <= result.tables[-1].total <= 100


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


def test_the_losses_do_not_depend_on_the_threads_that_prepare_batches(tmp_path, capsys):
    """Whose number is therefore chosen where it is not given; it is printed, and saved with the settings."""
    made = {}
    for workers in (None, 0, 3):
        run = tmp_path / f"{workers}"
        train(small(4, workers=workers), run)
        made[workers] = losses(run)
    assert made[0] == made[3] == made[None]
    assert json.loads((tmp_path / "None" / "config.json").read_text())["workers"] == 1
    assert "20 held out, batches by 1 thread\n" in capsys.readouterr().out


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


@pytest.mark.parametrize(("precision", "tf32"), [("float32", False), ("tf32", True)])
def test_validation_has_the_updates_tf32(tmp_path, monkeypatch, precision, tf32):
    """The device is told that it is a GPU."""
    seen, original = [], loop.predict_dataset

    def looking(*given, **named):
        seen.append(tf32_flags())
        return original(*given, **named)

    as_on_a_gpu = partial(float32_products, torch.device("cuda"))
    monkeypatch.setattr(loop, "predict_dataset", looking)
    monkeypatch.setattr(loop, "float32_products", lambda _, tf32: as_on_a_gpu(tf32=tf32))
    with tf32_allowed(not tf32, not tf32):
        train(small(1, **{"solver.precision": precision}), tmp_path / "run")
        assert tf32_flags() == (not tf32, not tf32)
    assert set(seen) == {(tf32, tf32)}


def test_another_budget_is_no_other_schedule_where_rates_go_by_the_iteration():
    linear, step = small(3), small(3, **{"solver.schedule": "step"})
    assert schedule_change(linear, linear) is None
    assert schedule_change(step, replace(step, iterations=8)) is None
    minutes = replace(linear, iterations=None, minutes=1.5)
    assert "was 3 iterations and is 1.5 minutes: the schedule linear" in schedule_change(linear, minutes)


def test_shards_give_the_whole_batchs_gradient():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 3))
    data = torch.randn(5, 3, 9, 9)

    def loss_of(part: slice) -> torch.Tensor:
        out = net(data[part])
        return torch.stack([out.square().sum() / 10, out.abs().sum() / 10])

    whole = loss_of(slice(0, 5))
    expected = torch.autograd.grad(whole.sum(), list(net.parameters()))
    with Cores(2) as cores:
        values = sharded_backward(net, cores, 5, loss_of)
    assert values.tolist() == pytest.approx(whole.tolist(), rel=1e-5)
    for weight, gradient in zip(net.parameters(), expected, strict=True):
        assert torch.allclose(weight.grad, gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("passes", [1, 3])
def test_gradients_lie_in_memory_as_their_weights_do(passes):
    """Fused AdamW on a CPU walks both side by side whatever their strides are."""
    net = torch.nn.Conv2d(3, 4, 3, bias=False).to(memory_format=torch.channels_last)
    factors = torch.randn(4, 3, 3, 3)
    sharded_backward(net, Cores(1), 3, lambda _: (net.weight * factors).sum().reshape(1), passes=passes)
    assert net.weight.grad.stride() == net.weight.stride() != factors.stride()
    assert torch.equal(net.weight.grad, passes * factors)


def test_stage_losses_are_caffes_and_stage_1_sees_everybody():
    """Hand-computed: zero maps, so each loss is the sum of its target's squares over 2N."""
    from cpm_repro.config import TargetConfig

    joints = torch.tensor([[[[3.5, 3.5]], [[11.5, 11.5]]]])  # two people on cell centres
    visible = torch.ones(1, 2, 1, dtype=torch.uint8)
    maps = [torch.zeros(1, 2, 2, 2) for _ in range(3)]
    first, second, third = stage_losses(maps, joints, visible, TargetConfig(sigma=7.0, stride=8)).tolist()
    near, far = np.exp(-64 / 98), np.exp(-128 / 98)
    alone = np.array([1, near, near, far])
    everybody = np.minimum(alone + alone[[3, 1, 2, 0]], 1)
    expected = [np.sum(t**2) / 2 + np.sum((1 - t) ** 2) / 2 for t in (everybody, alone)]
    assert [first, second, third] == pytest.approx([expected[0], expected[1], expected[1]], rel=1e-5)


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    train(small(1), tmp_path / "run")
    with pytest.raises(UserError, match=r"already holds a run.*--resume"):
        train(small(1), tmp_path / "run")


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    train(small(1), tmp_path / "run")
    with pytest.raises(UserError, match=r"another run: wanted network\.stages = None, got 2"):
        train(small(2, **{"network.stages": 2}), tmp_path / "run", resume=True)


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


def test_a_finished_run_asked_to_go_on_is_scored_once(tmp_path):
    train(small(2), tmp_path / "run")
    train(small(2), tmp_path / "run", resume=True)
    kinds = [record["kind"] for record in RunFolder(tmp_path / "run").records()]
    assert kinds == ["train", "train", "validation"]


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
