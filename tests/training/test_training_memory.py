"""What spares memory leaves the update as it is; the estimate; half precision."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tf32_settings import tf32_allowed, tf32_flags

from cpm_repro.cli import main
from cpm_repro.config import AugmentConfig, SolverConfig, TrainConfig, check, override, preset
from cpm_repro.data import Batch
from cpm_repro.device import float32_products
from cpm_repro.errors import UserError
from cpm_repro.inference.weights import BUNDLED
from cpm_repro.model import build, initialise, pose_machine
from cpm_repro.training import load_checkpoint, train
from cpm_repro.training.estimate import Estimate, estimate
from cpm_repro.training.ranks import Ranks
from cpm_repro.training.recipe import LossScale, build_optimizers
from cpm_repro.training.run_folder import RunFolder
from cpm_repro.training.schemes import enter, phases_of
from cpm_repro.training.sharding import Cores
from cpm_repro.training.step import Step

PROTOS = Path(__file__).parents[2] / "protos_reference"
SMALL = {
    "network.width": 0.05,
    "augment.crop": 64,
    "solver.batch": 4,
    "solver.optimizer": "adamw",
    "solver.precision": "float32",
    "validate_people": 5,
}


def run(folder, iterations=4, **changes):
    config = replace(preset("tiny"), minutes=None, iterations=iterations, validate_every=1.0)
    train(override(config, {**SMALL, **changes}), folder)
    losses = [record["loss"] for record in RunFolder(folder).records() if record["kind"] == "train"]
    return losses, load_checkpoint(folder / "checkpoints" / "last.pt")


TIGHT = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of"
)
TINY = ["--set=network.width=0.05", "--set=augment.crop=64", "--batch=2", "--set=validate_people=2"]


def said_by(capsys, *arguments):
    """The one line of a command that ends with exit code 2."""
    assert main([str(argument) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_crop_that_no_memory_holds_is_one_line_and_the_folder_is_free_again(tmp_path, capsys):
    command = ["train", "--out", tmp_path / "run", "--iterations=1", *TINY]
    said = said_by(capsys, *command, "--set=augment.crop=10000000")
    assert "error: a batch of 2 crops of 10000000x10000000 px does not fit into memory (tried to al" in said
    for setting in ("solver.accumulate (now 1", "solver.recompute=true", "--batch", "augment.crop"):
        assert setting in said
    assert main([str(argument) for argument in command]) == 0


def test_a_gpu_that_fills_up_on_the_way_leaves_the_checkpoints(tmp_path, capsys, monkeypatch):
    from cpm_repro.training import step

    last = tmp_path / "run" / "checkpoints" / "last.pt"
    original = step.sharded_backward

    def backward(*given, **more):
        if last.exists():
            raise TIGHT
        return original(*given, **more)

    monkeypatch.setattr(step, "sharded_backward", backward)
    command = ["train", "--out", tmp_path / "run", "--iterations=3", "--checkpoint-iterations=2", *TINY]
    said = said_by(capsys, *command, "--set=solver.recompute=true")
    assert "does not fit into memory (tried to allocate 2.00 GiB): raise --set solver.accumulate" in said
    assert "recompute" not in said  # it is on already
    assert said.endswith("checkpoints are as they were")
    assert load_checkpoint(last).iteration >= 1


def test_scoring_that_does_not_fit_is_one_line(tmp_path, capsys, monkeypatch):
    """By ``cpm eval``, by the release's procedure, by ``cpm predict``, and a solver prototxt's training."""

    def full(*_, **__):
        raise TIGHT

    weights, solver = BUNDLED, PROTOS / "mpii_6stage" / "pose_solver.prototxt"
    monkeypatch.setattr("cpm_repro.training.commands.predict_dataset", full)
    said = said_by(capsys, "eval", "--weights", weights, "--data=synthetic")
    assert "a batch of 16 crops of 128x128 px does not fit into memory" in said
    monkeypatch.setattr("cpm_repro.inference.benchmark.BenchmarkProcedure.__call__", full)
    release = ["eval", "--weights", weights, "--data=synthetic", "--procedure=release", "--first=1"]
    said = said_by(capsys, *release, "--out", tmp_path / "scores")
    assert f"another --device; who is done is kept in {tmp_path / 'scores'}" in said
    monkeypatch.setattr("cpm_repro.inference.estimator.PoseEstimator.estimate", full)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 64, 3), np.uint8))
    said = said_by(capsys, "predict", tmp_path / "a.png", "--out", tmp_path / "poses")
    assert "a batch of 8 crops of 128x128 px does not fit into memory" in said
    assert "lower --batch" in said
    monkeypatch.setattr("cpm_repro.training.solver_run.estimate_solver", full)
    said = said_by(capsys, "train", "--solver", solver, "--data=synthetic", "--out", tmp_path / "run")
    assert "368x368 px does not fit into memory" in said
    assert "lower the data layer's batch_size and raise iter_size" in said


def test_accumulated_passes_make_the_same_updates(tmp_path):
    plain, _ = run(tmp_path / "plain")
    split, _ = run(tmp_path / "split", **{"solver.accumulate": 4})
    for a, b in zip(plain, split, strict=True):
        assert b == pytest.approx(a, rel=1e-5)


@pytest.mark.parametrize("arch", ["tiny", "flic_4stage", "person_4stage"])
def test_recomputed_activations_give_the_same_gradients_bit_for_bit(monkeypatch, arch):
    """With dropout (flic) the pass that makes them again must drop the same features."""
    parts = []
    original = pose_machine.checkpoint
    monkeypatch.setattr(
        pose_machine, "checkpoint", lambda *given, **how: parts.append(1) or original(*given, **how)
    )
    net = build(arch, width=0.05, stages=3).train()
    data = torch.randn(2, net.input_channels, 64, 64)

    def gradients(recompute):
        net.recompute = recompute
        torch.manual_seed(1)
        loss = sum(maps.square().sum() for maps in net(data))
        return torch.autograd.grad(loss, list(net.parameters()))

    assert all(torch.equal(a, b) for a, b in zip(gradients(False), gradients(True), strict=True))
    assert len(parts) == 4  # three stages and the features that several of them share


def test_a_run_that_recomputes_is_the_same_run_and_keeps_less(tmp_path):
    plain, a = run(tmp_path / "plain")
    again, b = run(tmp_path / "again", **{"solver.recompute": True})
    assert plain == again
    assert all(torch.equal(a.model[name], b.model[name]) for name in a.model)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("recompute", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_compiled_network_makes_the_same_update(tmp_path, backend, recompute):
    """``solver.compile`` works on a GPU; here the same step runs a network compiled for the CPU.

    One graph, or the gain would be lost; ``aot_eager`` traces forward and backward without generating code.
    """
    config = override(preset("tiny"), {**SMALL, "network.width": 0.03, "solver.recompute": recompute})
    (phase,) = phases_of("end-to-end", 2)
    generator = torch.Generator().manual_seed(0)
    batch = Batch(
        image=torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8, generator=generator),
        joints=64 * torch.rand(4, 1, 14, 2, generator=generator),
        visible=torch.ones(4, 1, 14, dtype=torch.uint8),
        center=64 * torch.rand(4, 2, generator=generator),
    )
    made = []
    for compiled in (False, True):
        net = build("tiny", width=0.03, stages=2).train()
        initialise(net, "kaiming", torch.Generator().manual_seed(0))
        optimizers = build_optimizers(net, config.solver)
        step = Step(net, config, optimizers, Cores(1), Ranks(device=torch.device("cpu")), tmp_path)
        if compiled:
            step.forward = torch.compile(net, backend=backend, fullgraph=True)
        made += [[done.losses, done.gradient_norm] for done in (step(batch, i, phase, 1.0) for i in range(2))]
    plain, fast = made[:2], made[2:]
    for a, b in zip(plain, fast, strict=True):
        assert b[0] == pytest.approx(a[0], rel=1e-5)
        assert b[1] == pytest.approx(a[1], rel=1e-4)
    assert plain[0] != plain[1]


def test_frozen_stages_work_with_recomputation():
    net = build("tiny", width=0.05, stages=3).train()
    enter(net, phases_of("stage-wise", 3)[2])
    net.recompute = True
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    loss = net(torch.randn(1, 4, 64, 64))[2].square().sum()
    assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(loss, weights))


def config_of(**solver):
    return TrainConfig(augment=AugmentConfig(crop=64), solver=SolverConfig(**solver), iterations=1)


def test_the_estimate_counts_state_and_activations():
    net = build("tiny", width=0.1).train()
    count = sum(weight.numel() for weight in net.parameters())

    def of(people=8, cores=1, **solver):
        return estimate(net, config_of(**solver), people, cores)

    assert of(optimizer="caffe_sgd").state == 4 * 3 * count  # weights, gradients, momentum
    assert of(optimizer="adamw", average=0.9).state == 4 * 5 * count
    assert of(optimizer="adamw", cores=2).state == 4 * 5 * count  # a gradient for each core
    whole = of().activations
    assert of(people=16).activations == 2 * whole
    assert of(accumulate=4).activations == whole // 4
    assert 0 < of(recompute=True).activations < whole


@pytest.mark.parametrize(("precision", "tf32"), [("float32", False), ("tf32", True)])
def test_the_estimate_is_timed_with_the_updates_tf32(monkeypatch, precision, tf32):
    """The device is told that it is a GPU."""
    net, seen = build("tiny", width=0.05), []
    net.register_forward_hook(lambda *_: seen.append(tf32_flags()))
    as_on_a_gpu = partial(float32_products, torch.device("cuda"))
    monkeypatch.setattr(
        "cpm_repro.training.estimate.float32_products", lambda _, tf32: as_on_a_gpu(tf32=tf32)
    )
    with tf32_allowed(not tf32, not tf32):
        estimate(net, config_of(precision=precision), 1)
        assert tf32_flags() == (not tf32, not tf32)
    assert set(seen) == {(tf32, tf32)}


def test_the_estimates_activations_are_what_autograd_keeps():
    """By hand for a network of one stage: every layer's input or output, and the pools' indices."""
    net = build("person_4stage", width=0.05, stages=1).train()
    made = []
    hooks = [
        module.register_forward_hook(lambda _, given, made_out: made.append((given[0], made_out)))
        for module in net.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    net(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    convolutions = sum(out.numel() for _, out in made)  # a ReLU's output; the last stage's maps are not kept
    kept = estimate(net, config_of(), 1).activations / 4
    # At least every layer's own output; at most inputs and outputs each, indices of the pools twice a value.
    assert convolutions - made[-1][1].numel() <= kept <= 2.5 * sum(a.numel() + b.numel() for a, b in made)


def test_the_estimate_is_said_before_the_first_update_and_warns(tmp_path, capsys, monkeypatch):
    from cpm_repro.training import estimate as module

    monkeypatch.setattr(module, "_available", lambda _: 1000)
    run(tmp_path / "run", iterations=1)
    printed = capsys.readouterr().out
    assert printed.index("estimate: ") < printed.index("validation PCK")
    assert "for 1 updates, without validation" in printed
    assert "warning: that is more than the 0.001 MB there are: split the batch" in printed


@pytest.mark.parametrize(
    ("budget", "made", "wanted"),
    [
        ({"iterations": 100, "minutes": None}, (0, 0.0), "3:20 for 100 updates"),
        ({"iterations": 100, "minutes": None}, (90, 170.0), "0:20 for 10 updates"),
        ({"iterations": None, "minutes": 15.0}, (0, 0.0), "450 updates in 15 min"),
        ({"iterations": None, "minutes": 15.0}, (400, 840.0), "30 updates in 1 min"),
        ({"iterations": 600_000, "minutes": 1.0}, (0, 0.0), "30 updates in 1 min"),
        ({"iterations": 20, "minutes": 1.0}, (0, 0.0), "0:40 for 20 updates"),
        ({"iterations": 20, "minutes": 1.0}, (20, 90.0), "0:00 for 0 updates"),
    ],
)
def test_the_estimate_is_of_what_is_left_and_of_the_budget_that_ends_first(budget, made, wanted):
    known = Estimate(state=1, activations=1, seconds=2.0, available=None)
    assert f", {wanted}, without validation" in known.said(replace(preset("tiny"), **budget), *made)


def test_more_passes_than_people_are_refused():
    config = override(preset("tiny"), {**SMALL, "solver.accumulate": 5})
    with pytest.raises(UserError, match=r"accumulate must lie in 1 to batch \(4\), got 5"):
        check(config)


def test_fp16_with_a_loss_scale_learns_like_float32_and_resumes(tmp_path):
    step = {"solver.schedule": "step"}
    full, _ = run(tmp_path / "full", iterations=6, **step)
    half, saved = run(tmp_path / "half", iterations=6, **step, **{"solver.precision": "fp16"})
    assert saved.loss_scale == {"value": 2.0**10, "good": 6}
    for a, b in zip(full, half, strict=True):
        assert b == pytest.approx(a, rel=0.02)
    assert full != half


def test_an_overflow_under_fp16_halves_the_scale_and_skips_the_update(tmp_path, monkeypatch):
    from cpm_repro.training import step

    original = step.sharded_backward
    calls = []

    def backward(net, *rest, **more):
        values = original(net, *rest, **more)
        calls.append({name: weight.detach().clone() for name, weight in net.named_parameters()})
        if len(calls) == 2:
            net.conv1_1.weight.grad[0, 0, 0, 0] = float("inf")
        return values

    monkeypatch.setattr(step, "sharded_backward", backward)
    _, saved = run(tmp_path / "run", iterations=3, **{"solver.precision": "fp16"})
    assert saved.loss_scale == {"value": 2.0**9, "good": 1}
    moved = [not torch.equal(calls[i]["conv1_1.weight"], calls[i + 1]["conv1_1.weight"]) for i in (0, 1)]
    assert moved == [True, False]
    norms = [r["gradient_norm"] for r in RunFolder(tmp_path / "run").records() if r["kind"] == "train"]
    assert [norm is None for norm in norms] == [False, True, False]


def test_the_loss_scale_by_hand():
    scale = LossScale(active=True, start=4.0, patience=2)
    values = []
    for finite in (True, True, False, False, False, True, True):
        scale.update(finite=finite)
        values.append(scale.value)
    assert values == [4, 8, 4, 2, 1, 1, 2]
    restored = LossScale(active=True)
    restored.load_state_dict(scale.state_dict())
    assert (restored.value, restored.good) == (2.0, 0)
