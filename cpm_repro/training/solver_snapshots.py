"""Caffe's snapshots of a solver prototxt's run: a caffemodel, and a solverstate that names it."""

from __future__ import annotations

from pathlib import Path

from cpm_repro.caffe.lr_policy import LrPolicy
from cpm_repro.caffe.net import CaffeNet
from cpm_repro.caffe.resume import history_of, restore_history
from cpm_repro.caffe.sgd import CaffeSGD
from cpm_repro.caffe.solverstate import SolverState, read_solverstate, write_solverstate
from cpm_repro.errors import UserError


def write_snapshot(
    prefix: Path, iteration: int, net: CaffeNet, optimizer: CaffeSGD, policy: LrPolicy
) -> Path:
    """Write ``PREFIX_iter_N.caffemodel`` and the solverstate beside it; returns the former.

    Weights first: a solverstate that exists has its caffemodel. Each is written atomically.
    """
    model = Path(f"{prefix}_iter_{iteration}.caffemodel")
    net.save(model)
    state, step = model.with_suffix(".solverstate"), policy.current_step(iteration)
    write_solverstate(state, iteration, history_of(optimizer), str(model), step)
    return model


def read_snapshot(path: Path, net: CaffeNet, optimizer: CaffeSGD) -> int:
    """Put ``net`` and ``optimizer`` into the state of the solverstate ``path``; returns its iteration.

    Raises:
        UserError: no solverstate, of another net, or one whose weights are not there, or not all of them.
    """
    state = read_solverstate(path)
    model = _learned_net(state, path)
    missing = net.load(model).untouched
    if missing:  # at their filler they would have the momentum of others
        raise UserError(f"{path}: its weights {model} lack those of {', '.join(missing)}: another net's")
    return restore_history(optimizer, state)


def _learned_net(state: SolverState, path: Path) -> Path:
    """The caffemodel that a solverstate names: beside it, where it was written, or where it says.

    Both may have been moved together, and where they were there may be another run's by now.
    """
    places = [
        path.parent / Path(state.learned_net).name,
        Path(state.learned_net),
        path.with_suffix(".caffemodel"),
    ]
    for place in places:
        if place.is_file():
            return place
    raise UserError(f"{path}: its weights {state.learned_net or places[-1]} are not there")
