"""Going on from Caffe's snapshots, and handing runs back: solver prototxt and solverstate to CaffeSGD."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cpm_repro.caffe.lr_policy import as_typed
from cpm_repro.caffe.net import CaffeNet
from cpm_repro.caffe.prototxt import read_solver
from cpm_repro.caffe.sgd import CaffeSGD
from cpm_repro.caffe.solver_check import check_optimizer
from cpm_repro.caffe.solverstate import SolverState, read_solverstate
from cpm_repro.errors import UserError


def optimizer_for(net: CaffeNet, solver: str | Path | Any) -> CaffeSGD:
    """The optimiser that a solver prototxt (path or SolverParameter) asks for, over all of ``net``'s arrays.

    Its groups are in Caffe's order, one per array, with the net's multipliers. The learning rate of each
    iteration is the caller's to set: ``group["lr"] = policy_of(solver)(iteration)``.

    Raises:
        UserError: as :func:`~cpm_repro.caffe.solver_check.check_optimizer`.
    """
    if isinstance(solver, (str, Path)):
        solver = read_solver(solver)
    check_optimizer(solver)
    return CaffeSGD(
        net.param_groups(),
        lr=as_typed(solver.base_lr),
        momentum=as_typed(solver.momentum),
        weight_decay=as_typed(solver.weight_decay),
        iter_size=solver.iter_size,
        clip_gradients=solver.clip_gradients,
        missing_as_zero=True,
    )


def restore_history(optimizer: CaffeSGD, state: SolverState | str | Path) -> int:
    """Put a solverstate's momentum into ``optimizer``, whose groups are in Caffe's order; the iteration.

    Raises:
        UserError: the file is not readable, or number or shapes of its arrays differ (all are listed).
    """
    if not isinstance(state, SolverState):
        state = read_solverstate(state)
    arrays = _arrays(optimizer)
    if len(arrays) != len(state.history):
        raise UserError(f"solverstate: wanted {len(arrays)} momentum arrays, got {len(state.history)}")
    wrong = [
        f"{index}: wanted {list(array.shape)}, got {list(history.shape)}"
        for index, (array, history) in enumerate(zip(arrays, state.history, strict=True))
        if array.numel() != history.size
    ]
    if wrong:
        raise UserError(f"solverstate: momentum arrays do not fit: {'; '.join(wrong)}")
    for array, history in zip(arrays, state.history, strict=True):
        buffer = torch.as_tensor(history, dtype=array.dtype).reshape(array.shape).to(array.device)
        optimizer.state[array]["momentum_buffer"] = buffer.clone()
    return state.iter


def history_of(optimizer: CaffeSGD) -> list[Tensor]:
    """The momentum arrays in Caffe's order, zeros where no update was made yet: what a solverstate stores."""
    return [
        optimizer.state[array].get("momentum_buffer", torch.zeros_like(array)).detach().cpu()
        for array in _arrays(optimizer)
    ]


def _arrays(optimizer: CaffeSGD) -> list[Tensor]:
    return [array for group in optimizer.param_groups for array in group["params"]]
