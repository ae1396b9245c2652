"""Several processes train what one process trains: real processes over gloo, on this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from processes import Processes, finish, wait_for

from cpm_repro.config import TargetConfig, override, preset
from cpm_repro.data import TrainLoader, open_dataset
from cpm_repro.errors import EnvironmentFailure, UserError
from cpm_repro.memory import fitting
from cpm_repro.model import build
from cpm_repro.training import load_checkpoint, ranks, stage_losses, train
from cpm_repro.training.parallel import Parallel
from cpm_repro.training.ranks import Ranks, joined
from cpm_repro.training.run_folder import RunFolder
from cpm_repro.training.sharding import Cores, sharded_backward

PROTOS = Path(__file__).parents[2] / "protos_reference"
SMALL = {
    "network.width": 0.05,
    "augment.crop": 64,
    "workers": 1,
    "validate_people": 5,
    "solver.precision": "float32",
}


def command(out, iterations: int, *more: str) -> list[str]:
    settings = [f"--set={name}={json.dumps(value)}" for name, value in SMALL.items()]
    return ["train", "--iterations", str(iterations), "--seed", "3", "--out", str(out), *settings, *more]


@pytest.fixture
def processes(tmp_path):
    processes = Processes(tmp_path)
    yield processes
    processes.close()


def records(folder, kind="train"):
    return [record for record in RunFolder(folder).records() if record["kind"] == kind]


def losses(folder) -> list[list[float]]:
    return [record["loss"] for record in records(folder)]


def relative_difference(one, other) -> float:
    one, other = np.array(one), np.array(other)
    assert one.shape == other.shape
    return float((np.abs(one - other) / np.abs(one)).max())


# Five people on two ranks: shares of 2 and 3, so that a loss divided by a rank's own N would show.
RECIPES = {
    "caffe_sgd": ["--set=solver.optimizer=caffe_sgd", "--lr=8e-5", "--set=solver.initialisation=caffe"],
    "accumulated, averaged, clipped adamw": [
        "--set=solver.optimizer=adamw", "--lr=1e-3", "--set=solver.accumulate=2", "--set=solver.average=0.9",
        "--set=solver.clip=1.0",
    ],
    "stage by stage, then all": [
        "--scheme=stage-wise-then-end-to-end", "--set=solver.optimizer=adamw", "--lr=1e-3",
    ],
}  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_ranks_equal_one_process_with_the_whole_batch(tmp_path, processes, recipe):
    more = ["--batch=5", "--set=validate_every=0.5", *RECIPES[recipe]]
    alone = processes.start(command(tmp_path / "one", 10, *more), threads=1)
    assert finish(alone) == 0
    pair = processes.ranks(*[command(tmp_path / "two", 10, *more)] * 2)
    assert [finish(process) for process in pair] == [0, 0]
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(two) == 10  # and every update once: one writer
    assert [len(stages) for stages in one] == [len(stages) for stages in two]
    assert relative_difference(np.concatenate(one), np.concatenate(two)) < 1e-5
    first = [records(tmp_path / run)[0]["gradient_norm"] for run in ("one", "two")]
    assert relative_difference(*first) < 1e-5
    # Everybody was scored, once, by both ranks together.
    assert [r["pck"] for r in records(tmp_path / "two", "validation")] == [
        r["pck"] for r in records(tmp_path / "one", "validation")
    ]
    assert "Traceback" not in (tmp_path / "rank1.txt").read_text()
    assert "validation" not in (tmp_path / "rank1.txt").read_text()


def test_ranks_with_different_settings_are_one_line(tmp_path, processes):
    run = tmp_path / "run"
    pair = processes.ranks(command(run, 10, "--lr=0.5"), command(run, 10, "--lr=0.25"))
    assert [finish(process) for process in pair] == [2, 2]
    said = (tmp_path / "rank0.txt").read_text().splitlines()[-1]
    assert "rank 1 was started with solver.lr = 0.25, rank 0 with 0.5: give all ranks the same" in said
    assert (tmp_path / "rank1.txt").read_text() == ""
    assert not run.exists()


def test_a_mistake_of_all_ranks_or_of_one_is_one_line(tmp_path, processes):
    run = tmp_path / "run"
    both = processes.ranks(*[command(run, 10, "--batch=1")] * 2)
    assert [finish(process) for process in both] == [2, 2]
    assert "a batch of 1 cannot be shared by 2 ranks" in (tmp_path / "rank0.txt").read_text()
    assert (tmp_path / "rank1.txt").read_text() == ""
    (tmp_path / "rank0.txt").unlink()
    one = processes.ranks(command(run, 10), command(run, 10, "--preset=tinny"))
    assert [finish(process) for process in one] == [2, 2]
    assert "rank 1: unknown preset 'tinny'; did you mean tiny?" in (tmp_path / "rank0.txt").read_text()
    assert (tmp_path / "rank1.txt").read_text() == ""


def test_a_signal_to_one_rank_stops_all_in_the_same_step(tmp_path, processes):
    run = tmp_path / "run"
    pair = processes.ranks(*[command(run, 3000, "--batch=4")] * 2)
    wait_for(lambda: len(losses(run)) >= 3, pair[0])
    os.kill(pair[1].pid, signal.SIGTERM)
    assert [finish(process, 60) for process in pair] == [0, 0]
    made = len(losses(run))
    assert load_checkpoint(run / "checkpoints" / "last.pt").iteration == made
    assert f"stopped and saved after iteration {made}" in (tmp_path / "rank0.txt").read_text()
    assert (tmp_path / "rank1.txt").read_text() == ""


def test_a_rank_that_dies_ends_the_other_in_one_line(tmp_path, processes):
    """Killed with -9 and not restarted: the other rank does not wait, and what was saved is whole."""
    run = tmp_path / "run"
    pair = processes.ranks(*[command(run, 3000, "--batch=4", "--checkpoint-iterations=2")] * 2)
    wait_for(lambda: len(losses(run)) >= 4, pair[0])
    os.kill(pair[1].pid, signal.SIGKILL)
    assert finish(pair[0], 60) == 1
    said = (tmp_path / "rank0.txt").read_text()
    assert "error: another rank is gone, see its own message" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert load_checkpoint(run / "checkpoints" / "last.pt").iteration >= 2


def test_a_rate_that_diverges_on_two_ranks_is_one_line(tmp_path, processes):
    run, more = tmp_path / "run", ["--set=solver.optimizer=adamw", "--lr=1e30"]
    pair = processes.ranks(*[command(run, 60, *more)] * 2)
    assert [finish(process) for process in pair] == [2, 2]
    said = (tmp_path / "rank0.txt").read_text().splitlines()[-1]
    assert "the loss is no longer finite at iteration" in said
    assert "lower the learning rate" in said
    assert "Traceback" not in (tmp_path / "rank1.txt").read_text()
    assert sorted(path.name for path in (run / "nonfinite").iterdir()) == ["rank0", "rank1"]


def test_a_solver_prototxt_is_not_trained_by_several_ranks(tmp_path, processes):
    """Each of them would train the whole run, into the same files."""
    solver = str(PROTOS / "mpii_6stage" / "pose_solver.prototxt")
    given = ["train", "--solver", solver, "--data", "synthetic", "--out", str(tmp_path / "run")]
    pair = processes.ranks(given, given)
    assert [finish(process) for process in pair] == [2, 2]
    (line,) = (tmp_path / "rank0.txt").read_text().splitlines()
    assert "--solver trains in one process, got 2 ranks" in line
    assert (tmp_path / "rank1.txt").read_text() == ""
    assert not (tmp_path / "run").exists()


def test_gradients_are_exchanged_while_the_backward_pass_goes_on_and_once_an_update(monkeypatch):
    """The last stages' before the first layer's are there, and not in passes that only accumulate."""
    torch.manual_seed(0)  # with some draws rounding decides which cell of a pool is the largest
    net = build("tiny", width=0.4).train()
    joints, visible = torch.rand(3, 1, 14, 2) * 32, torch.ones(3, 1, 14, dtype=torch.uint8)
    data = torch.rand(3, 4, 32, 32)
    events = []
    first = net.layer("conv1_1").weight
    first.register_hook(lambda _: events.append("first layer"))
    exchange = dist.all_reduce

    def logged(*given, **named):
        events.append("exchange")
        return exchange(*given, **named)

    def loss_of(module, part):
        return stage_losses(module(data[part]), joints[part], visible[part], TargetConfig(), count=3)

    weights = torch.tensor([1.0, 1.0, 0.5])
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        monkeypatch.setattr(dist, "all_reduce", logged)
        parallel = Parallel(net, Ranks(0, 1, torch.device("cpu")))
        found = []
        for passes in (1, 1, 3):  # buckets are laid out by what the first backward pass shows
            events.clear()
            losses = parallel.backward(3, lambda part: loss_of(parallel.module, part), weights, passes)
            found.append((losses, [weight.grad.clone() for weight in net.parameters()]))
            if len(found) > 1:
                assert events == ["first layer"] * (passes - 1) + ["exchange", "first layer", "exchange"]
        alone = sharded_backward(net, Cores(1), 3, lambda part: loss_of(net, part), weights)
    finally:
        dist.destroy_process_group()
    for losses, gradients in found:
        assert losses.tolist() == pytest.approx(alone.tolist(), rel=1e-6)
        for ours, weight in zip(gradients, net.parameters(), strict=True):
            assert float((ours - weight.grad).abs().max()) <= 1e-5 * float(weight.grad.abs().max())


@pytest.mark.slow
def test_torchrun_starts_the_ranks_again_after_one_is_killed(tmp_path):
    """The documented command, for real: rank 1 killed with -9, torchrun restarts, the run goes on exactly."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    more = ["--batch=4", "--checkpoint-iterations=2"]

    def torchrun(out) -> list[str]:
        return [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1",
            "--master-port", str(port), "-m", "cpm_repro", *command(out, 60, *more),
        ]  # fmt: skip

    subprocess.run(torchrun(tmp_path / "whole"), check=True, capture_output=True)
    victim = subprocess.Popen(
        torchrun(tmp_path / "run"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while len(losses(tmp_path / "run")) < 10:
            assert victim.poll() is None
            time.sleep(0.01)
        children = subprocess.run(
            ["pgrep", "-P", str(victim.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        os.kill(int(children[-1]), signal.SIGKILL)
        assert victim.wait(200) == 0
    finally:
        victim.kill()
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_a_restart_finds_no_addresses_of_the_ranks_before_it(monkeypatch):
    """torchrun keeps its store over restarts; gloo once took a dead rank's address from it and gave up."""
    store = dist.HashStore()
    monkeypatch.setattr(dist, "rendezvous", lambda *_, **__: iter([(store, 0, 2)]))
    monkeypatch.setattr(dist, "init_process_group", lambda *_, store, **__: store.set("address", "x"))
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for attempt in ("0", "1"):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", attempt)
        with joined() as ranks:
            assert ranks.count == 2
    assert store.num_keys() == 2


def test_shares_of_a_batch_are_the_batch():
    """Two ranks' loaders make, together and in order, what one loader makes."""
    dataset = open_dataset("synthetic", "train", size=12)
    shares = [Ranks(rank, 3).share(7) for rank in range(3)]
    assert [len(range(7)[share]) for share in shares] == [2, 3, 2]
    config = preset("tiny").augment
    with TrainLoader(dataset, config, 7, 5, start=2) as whole:
        wanted = [next(whole) for _ in range(2)]
    made = []
    for share in shares:
        with TrainLoader(dataset, config, 7, 5, start=2, share=share) as loader:
            made.append([next(loader) for _ in range(2)])
    for index, batch in enumerate(wanted):
        assert torch.equal(torch.cat([part[index].image for part in made]), batch.image)
        assert torch.equal(torch.cat([part[index].center for part in made]), batch.center)


def test_ranks_draw_their_own_dropout():
    """A dropout network's two ranks on the same people must not drop the same features."""
    seeds = {3 * 1_000_003 + iteration + (rank << 52) for rank in range(64) for iteration in range(100)}
    assert len(seeds) == 6400
    assert max(seeds) < 2**63


@pytest.mark.parametrize("rank", [0, 1])
def test_a_gpu_that_is_full_is_not_another_rank_that_is_gone(rank):
    """The network is made for all ranks in an exchange: its buckets may be what does not fit."""

    def full():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def gone():
        raise RuntimeError("Connection closed by peer")

    ranks = Ranks(rank, 2, torch.device("cpu"))
    expected = r"it does not fit into memory \(tried to allocate 2.00 GiB\): less"
    with pytest.raises(UserError, match=expected), fitting("it", "less"):
        ranks.exchange(full)
    with pytest.raises(EnvironmentFailure if rank == 0 else SystemExit):
        ranks.exchange(gone)


def test_ranks_do_not_share_a_named_gpu(monkeypatch):
    monkeypatch.setattr(ranks, "usable_device", torch.device)
    with joined("cuda:3") as alone:
        assert alone.device == torch.device("cuda:3")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="device cuda:3: 2 ranks cannot share it"), joined("cuda:3"):
        pass


def test_more_ranks_than_gpus_are_one_line(monkeypatch):
    for name, value in {"WORLD_SIZE": "3", "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    wanted = r"rank 2 of this machine: wanted a GPU for each rank, got 2: start at most 2"
    with pytest.raises(UserError, match=wanted), joined():
        pass


def test_ranks_agree_on_how_many_people_there_are(monkeypatch, tmp_path):
    """A machine on which a photograph is missing would take its shares of other batches."""
    asked = {}
    monkeypatch.setattr(Ranks, "same", lambda _, settings: asked.update(settings))
    changes = {"network.width": 0.05, "augment.crop": 64, "solver.batch": 2, "validate_people": 2}
    train(override(replace(preset("tiny"), minutes=None, iterations=1), changes), tmp_path / "run")
    people = {split: len(open_dataset("synthetic", split)) for split in ("train", "val")}
    assert asked["people to train on"] == people["train"]
    assert asked["people held out"] in (2, people["val"])
