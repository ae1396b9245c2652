"""A run of the original Caffe, snapshot after iteration 3, continued here to the original's own end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import golden

from cpm_repro.caffe.lr_policy import policy_of
from cpm_repro.caffe.net import CaffeNet
from cpm_repro.caffe.prototxt import parse_prototxt, read_solver
from cpm_repro.caffe.resume import history_of, optimizer_for, restore_history
from cpm_repro.caffe.schema import new
from cpm_repro.caffe.solverstate import SolverState, read_solverstate, write_solverstate
from cpm_repro.errors import UserError

FOLDER = "caffemodel_sample"


def train(net: CaffeNet, optimizer, solver, iterations) -> list[float]:
    stored = np.load(golden(FOLDER) / "weights.npz")
    policy, losses = policy_of(solver), []
    for iteration in iterations:
        for group in optimizer.param_groups:
            group["lr"] = policy(iteration)
        optimizer.zero_grad()
        loss = net.objective(net(data=stored[f"input{iteration}"], label=stored[f"label{iteration}"]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def resumed():
    solver = read_solver(golden(FOLDER) / "solver.prototxt")
    net = CaffeNet(golden(FOLDER) / "train.prototxt", "TRAIN")
    net.load(golden(FOLDER) / "small_iter_3.caffemodel")
    optimizer = optimizer_for(net, solver)
    assert restore_history(optimizer, golden(FOLDER) / "small_iter_3.solverstate") == 3
    return net, optimizer, solver


def test_resumed_run_ends_where_caffes_did():
    net, optimizer, solver = resumed()
    losses = train(net, optimizer, solver, (3, 4))
    stored = np.load(golden(FOLDER) / "weights.npz")
    np.testing.assert_allclose(losses, [stored["loss_iter3"], stored["loss_iter4"]], rtol=1e-6)
    assert_ends_as_caffe(net, optimizer)


def test_a_run_never_stopped_ends_there_too():
    stored = np.load(golden(FOLDER) / "weights.npz")
    solver = read_solver(golden(FOLDER) / "solver.prototxt")
    net = CaffeNet(golden(FOLDER) / "train.prototxt", "TRAIN")
    for index, (weight, bias) in enumerate(zip(*[iter(net.parameters())] * 2, strict=True)):
        rng = np.random.RandomState(1000 + index + 7 * 100000)  # golden/README.md, gain 1
        fan_in = np.prod(weight.shape[1:])
        weight.data = torch.from_numpy((rng.randn(*weight.shape) * np.sqrt(2 / fan_in)).astype(np.float32))
        bias.data = torch.from_numpy((rng.randn(*bias.shape) * 0.05).astype(np.float32))
    optimizer = optimizer_for(net, solver)
    losses = train(net, optimizer, solver, range(5))
    np.testing.assert_allclose(losses, [stored[f"loss_iter{i}"] for i in range(5)], rtol=1e-6)
    assert_ends_as_caffe(net, optimizer)


def assert_ends_as_caffe(net, optimizer):
    stored = np.load(golden(FOLDER) / "weights.npz")
    history = iter(history_of(optimizer))
    for layer, arrays in net.weights().items():
        for kind, array in zip(("weight", "bias"), arrays, strict=True):
            # of the array's largest value; measured: weights 6.3e-8, momentum 3.3e-7
            want = stored[f"iter5_{layer}_{kind}"]
            np.testing.assert_allclose(array, want, atol=1e-6 * np.abs(want).max())
            want = stored[f"iter5_history_{layer}_{kind}"]
            np.testing.assert_allclose(next(history).numpy(), want, atol=1e-6 * np.abs(want).max())


def test_without_the_momentum_it_ends_elsewhere():
    """The comparison above is sharp enough to see a lost solverstate."""
    net, optimizer, solver = resumed()
    for state in optimizer.state.values():
        state["momentum_buffer"].zero_()
    train(net, optimizer, solver, (3, 4))
    want = np.load(golden(FOLDER) / "weights.npz")["iter5_conv1_weight"]
    assert np.abs(net.weights()["conv1"][0] - want).max() > 1e-3 * np.abs(want).max()


def test_snapshots_of_ours_resume_exactly(tmp_path):
    net, optimizer, solver = resumed()
    train(net, optimizer, solver, (3,))
    net.save(tmp_path / "x.caffemodel")
    write_solverstate(tmp_path / "x.solverstate", 4, history_of(optimizer), "x.caffemodel", 2)
    assert read_solverstate(tmp_path / "x.solverstate").current_step == 2
    other = CaffeNet(golden(FOLDER) / "train.prototxt", "TRAIN")
    other.load(tmp_path / "x.caffemodel")
    second = optimizer_for(other, golden(FOLDER) / "solver.prototxt")
    assert restore_history(second, tmp_path / "x.solverstate") == 4
    train(net, optimizer, solver, (4,))
    train(other, second, solver, (4,))
    for ours, theirs in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_history_that_does_not_fit_is_refused():
    _, optimizer, _ = resumed()
    with pytest.raises(UserError, match="wanted 4 momentum arrays, got 1"):
        restore_history(optimizer, SolverState(1, [np.zeros(3)]))
    with pytest.raises(
        UserError, match=r"0: wanted \[8, 3, 5, 5\], got \[3\]; 1: .*; 3: wanted \[4\], got \[3\]"
    ):
        restore_history(optimizer, SolverState(1, [np.zeros(3)] * 4))


def test_other_solvers_are_refused():
    net = CaffeNet(golden(FOLDER) / "train.prototxt", "TRAIN")
    for wrong in ({"type": "Adam"}, {"solver_type": 5}, {"regularization_type": "L1"}):
        with pytest.raises(UserError, match="wanted"):
            optimizer_for(net, new("SolverParameter", **wrong))


def test_an_iter_size_below_one_is_refused():
    net = CaffeNet(golden("caffemodel_sample/deploy.prototxt"))
    with pytest.raises(UserError, match="iter_size of at least 1, got 0"):
        optimizer_for(net, parse_prototxt("base_lr: 1 iter_size: 0", "SolverParameter"))
