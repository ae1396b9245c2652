"""Checkpoints written beside the training: what they hold, who waits for them, and who is told of errors."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from device_reads import Reads

from cpm_repro.config import override, preset
from cpm_repro.errors import EnvironmentFailure
from cpm_repro.training import Checkpoint, checkpoint_writer, load_checkpoint, loop, train
from cpm_repro.training.checkpoint_writer import CheckpointWriter, on_host
from cpm_repro.training.run_folder import RunFolder
from cpm_repro.training.saving import Saver

SMALL = {"network.width": 0.05, "augment.crop": 64, "solver.batch": 2, "validate_people": 2}


def small(iterations: int, **changes):
    config = replace(preset("tiny"), minutes=None, iterations=iterations, validate_every=1.0)
    return override(config, {**SMALL, **changes})


def made(folder) -> int:
    return sum(record["kind"] == "train" for record in RunFolder(folder).records())


class Disk:
    """Stands in for writing: goes on when it is let, and fails when it is full."""

    def __init__(self, monkeypatch):
        self.free, self.begun, self.full = threading.Event(), threading.Event(), False
        self.written: list[tuple[Path, Checkpoint]] = []
        monkeypatch.setattr(checkpoint_writer, "save_checkpoint", self.save)

    def save(self, path, checkpoint, _previous):
        self.begun.set()
        assert self.free.wait(30)
        if self.full:
            raise EnvironmentFailure(f"cannot write {path}: No space left on device")
        self.written.append((path, checkpoint))


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


@pytest.fixture
def writer():
    writer = CheckpointWriter()
    yield writer
    writer.close()


def state(iteration: int) -> Checkpoint:
    return Checkpoint(preset("tiny"), iteration, 0.0, 0.0, {"w": torch.zeros(2)}, [])


def test_a_copy_shares_nothing_with_what_training_changes():
    net = torch.nn.Conv2d(3, 2, 1).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 3, 1, 1)).sum().backward()
    optimizer.step()
    given = replace(state(3), model=net.state_dict(), optimizers=[optimizer.state_dict()], raw=None)
    norm, copied = on_host((torch.ones(()), given))
    wanted = {name: weight.clone() for name, weight in given.model.items()}
    moments = given.optimizers[0]["state"][0]["exp_avg"].clone()
    optimizer.step()
    assert float(norm) == 1
    assert (copied.iteration, copied.config, copied.raw) == (3, given.config, None)
    assert all(torch.equal(copied.model[name], wanted[name]) for name in wanted)
    assert not torch.equal(given.model["weight"], wanted["weight"])
    assert torch.equal(copied.optimizers[0]["state"][0]["exp_avg"], moments)
    assert copied.optimizers[0]["param_groups"] == given.optimizers[0]["param_groups"]


class OnAGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda, device = True, torch.device("cuda:1")


def test_a_gpus_tensors_are_queued_and_waited_for_together(monkeypatch):
    """What CUDA is asked for, in order; nothing is asked for tensors of the host's own."""
    log, empty_like, copy = [], torch.empty_like, torch.Tensor.copy_

    def empty(value, device, pin_memory):
        log.append("page-locked" if pin_memory else "pageable")
        return empty_like(value.as_subclass(torch.Tensor), device=device)

    def copied(self, value, non_blocking):
        log.append("queued" if non_blocking else "waited for")
        return copy(self, value.as_subclass(torch.Tensor))

    def wait_on(device):
        return SimpleNamespace(synchronize=lambda: log.append(f"waits for {device}"))

    monkeypatch.setattr(torch, "empty_like", empty)
    monkeypatch.setattr(torch.Tensor, "copy_", copied)
    monkeypatch.setattr(torch.cuda, "current_stream", wait_on)
    weights = [torch.full((3,), float(number)).as_subclass(OnAGpu) for number in range(2)]
    made = on_host({"a": weights, "lr": 0.5})
    assert log == ["page-locked", "queued"] * 2 + ["waits for cuda:1"]
    assert [float(weight[0]) for weight in made["a"]] == [0.0, 1.0]
    log.clear()
    on_host([torch.zeros(2)])
    assert log == ["pageable", "queued"]


def test_one_checkpoint_is_written_at_a_time(disk, writer):
    writer.write(Path("first"), state(1), None)
    second = threading.Thread(target=writer.write, args=(Path("second"), state(2), None))
    second.start()
    assert disk.begun.wait(30)
    writer.look()  # nothing is known yet, and nothing is waited for
    second.join(0.05)
    assert second.is_alive()
    assert disk.written == []
    disk.free.set()
    second.join(30)
    writer.wait()
    assert [str(path) for path, _ in disk.written] == ["first", "second"]


@pytest.mark.parametrize("call", ["look", "wait", "write"])
def test_an_error_is_raised_by_the_next_call_and_once(disk, writer, call):
    disk.full = True
    writer.write(Path("last.pt"), state(1), None)
    disk.free.set()
    while not writer._writing.done():
        time.sleep(0.001)
    with pytest.raises(EnvironmentFailure, match=r"cannot write last\.pt"):
        getattr(writer, call)(*[Path("next.pt"), state(2), None][: 3 * (call == "write")])
    writer.look()
    writer.wait()


def test_updates_are_made_while_a_state_is_written_and_do_not_change_it(tmp_path, monkeypatch):
    """The disk is as slow as two updates; the state of iteration 2 is that of a run of two."""
    run, original, kept = tmp_path / "run", checkpoint_writer.save_checkpoint, {}

    def slow(path, checkpoint, previous):
        deadline = time.monotonic() + 30
        while checkpoint.iteration == 2 and made(run) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        kept[checkpoint.iteration] = (made(run), checkpoint)
        original(path, checkpoint, previous)

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", slow)
    step = {"solver.schedule": "step"}
    train(small(5, checkpoint_iterations=2, **step), run)
    monkeypatch.undo()
    train(small(2, **step), tmp_path / "two")
    updates, state = kept[2]
    assert updates == 4  # the next checkpoint waits for this one
    wanted = load_checkpoint(tmp_path / "two" / "checkpoints" / "last.pt")
    assert all(torch.equal(state.model[name], wanted.model[name]) for name in wanted.model)
    assert load_checkpoint(run / "checkpoints" / "last.pt").iteration == 5


def test_a_disk_that_is_full_stops_the_run_at_the_next_update(tmp_path, monkeypatch):
    def full(path, *_):
        raise EnvironmentFailure(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", full)
    original = loop._Run._update

    def later(self, *given):
        original(self, *given)
        if self.writer._writing is not None:
            while not self.writer._writing.done():
                time.sleep(0.001)

    monkeypatch.setattr(loop._Run, "_update", later)
    with pytest.raises(EnvironmentFailure, match="cannot write "):
        train(small(9, checkpoint_iterations=2), tmp_path / "run")
    assert made(tmp_path / "run") in (2, 3)


def test_saving_waits_for_its_device_once(tmp_path, monkeypatch):
    """The largest weight comes with the copy; what is hashed and written lies on the host already."""
    original, seen = Saver.save, []

    def save(self, *given):
        with Reads() as reads:
            original(self, *given)
        seen.append(reads.seen)

    monkeypatch.setattr(Saver, "save", save)
    train(small(2, **{"solver.average": 0.9}), tmp_path / "run")
    assert len(seen) == 3  # before and after validation, and the best
    assert all(reads == ["Tensor.__float__"] for reads in seen)


@pytest.mark.gpu
def test_a_gpus_state_comes_to_page_locked_memory():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    weights = [torch.full((1 << 20,), float(number), device="cuda") for number in range(20)]
    copied = on_host(weights)
    for weight in weights:
        weight.zero_()
    assert all(copy.is_pinned() and float(copy[0]) == float(copy[-1]) == i for i, copy in enumerate(copied))
