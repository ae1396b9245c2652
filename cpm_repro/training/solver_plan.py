"""Reading a solver prototxt and the training net it names, and refusing what cannot be trained from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpm_repro.caffe.graph import NetState, active_layers
from cpm_repro.caffe.lr_policy import LrPolicy, as_typed, policy_of
from cpm_repro.caffe.prototxt import read_prototxt, read_solver
from cpm_repro.caffe.solver_check import check_optimizer
from cpm_repro.config import cut_off_by_layer
from cpm_repro.data.exact import ExactConfig
from cpm_repro.errors import UserError

_NOT_DONE = {
    "test_net": "nets are not tested during training",
    "test_net_param": "nets are not tested during training",
    "test_iter": "nets are not tested during training",
    "test_interval": "nets are not tested during training",
    "test_state": "nets are not tested during training",
    "debug_info": "no debug output",
    "solver_mode": "the first GPU is used if there is one",
    "device_id": "the first GPU is used if there is one",
}
"""Keys of a solver that do not change what is learned, and what is done instead of them."""


_FALLING = ("step", "exp", "multistep")
"""Policies that multiply the rate by gamma again and again."""

_POSITIVE = ("target_dist", "scale_min", "scale_max", "sigma", "sigma_center")
"""Numbers of a data layer by which people or Gaussians are sized."""


@dataclass(frozen=True)
class DataSettings:
    """What the training net's data layer says; sizes in pixels."""

    source: str
    batch: int
    augment: ExactConfig
    parts: int
    stride: int
    sigma: float
    sigma_center: float
    tops: tuple[str, str]  # blobs of images and of labels


@dataclass(frozen=True)
class SolverPlan:
    """A solver prototxt, read and checked: everything a run needs before it opens its data."""

    path: Path
    solver: Any  # SolverParameter
    net: Any  # NetParameter
    policy: LrPolicy
    data: DataSettings
    remarks: tuple[str, ...]

    def find(self, name: str) -> Path:
        """A file that the prototxts name: relative to the working folder as in Caffe, or to the solver's."""
        return _find(name, self.path.parent)

    @property
    def stages(self) -> tuple[str, ...]:
        """Caffe's NetState stages of the training net (no stages of a pose machine)."""
        return tuple(self.solver.train_state.stage)


def read_plan(path: Path) -> SolverPlan:
    """Read ``path``, a solver prototxt, and the net it trains.

    Raises:
        UserError: a file that is missing or does not parse (an unknown key is named), a learning-rate policy,
            solver type, snapshot format or data layer that is not there.
    """
    solver = read_solver(path)
    try:
        policy = policy_of(solver)
        check_optimizer(solver)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    _check(solver, path)
    net = _net_of(solver, path)
    unused = {_NOT_DONE[field.name] for field, _ in solver.ListFields() if field.name in _NOT_DONE}
    if not solver.snapshot_after_train:
        unused.add("the last state is written although snapshot_after_train is false")
    data = _data_settings(net, solver)
    return SolverPlan(path, solver, net, policy, data, (*sorted(unused), *_cut_off(data.augment)))


def _check(solver: Any, path: Path) -> None:
    formats = solver.DESCRIPTOR.enum_types_by_name["SnapshotFormat"].values_by_name
    rules = [
        (
            0 < solver.base_lr < math.inf,
            f"base_lr: wanted a positive number, got {as_typed(solver.base_lr)}",
        ),
        (
            0 <= solver.momentum < 1,
            f"momentum: wanted at least 0 and less than 1, got {as_typed(solver.momentum)}",
        ),
        (
            0 <= solver.weight_decay < math.inf,
            f"weight_decay: wanted 0 or a positive number, got {as_typed(solver.weight_decay)}",
        ),
        (
            solver.lr_policy not in _FALLING or 0 < solver.gamma <= 1,
            f"gamma: wanted more than 0 and at most 1 under lr_policy {solver.lr_policy}, "
            f"got {as_typed(solver.gamma)}",
        ),
        (
            solver.lr_policy != "inv" or 0 <= solver.gamma < math.inf,
            f"gamma: wanted 0 or a positive number under lr_policy inv, got {as_typed(solver.gamma)}",
        ),
        (math.isfinite(solver.gamma), f"gamma: wanted a finite number, got {as_typed(solver.gamma)}"),
        (solver.max_iter > 0, f"max_iter: wanted at least 1, got {solver.max_iter}"),
        (solver.average_loss > 0, f"average_loss: wanted at least 1, got {solver.average_loss}"),
        (
            solver.snapshot_format == formats["BINARYPROTO"].number,
            "snapshot_format: wanted BINARYPROTO, got HDF5",
        ),
        (not solver.snapshot_diff, "snapshot_diff: gradients are not written into snapshots"),
    ]
    for holds, sentence in rules:
        if not holds:
            raise UserError(f"{path}: {sentence}")


def _net_of(solver: Any, path: Path) -> Any:
    names = ("net", "net_param", "train_net", "train_net_param")
    given = [name for name in names if solver.HasField(name)]
    if len(given) != 1:
        raise UserError(f"{path}: wanted one of {', '.join(names)}, got {', '.join(given) or 'none'}")
    value = getattr(solver, given[0])
    return read_prototxt(_find(value, path.parent)) if isinstance(value, str) else value


def _find(name: str, beside: Path) -> Path:
    return Path(name) if Path(name).exists() else beside / name


def _cut_off(augment: ExactConfig) -> list[str]:
    """A warning where people do not fit into the crop."""
    side = min(augment.crop_size_x, augment.crop_size_y)
    cut = cut_off_by_layer(side, augment.target_dist, augment.scale_min, augment.scale_max)
    return [] if cut is None else [f"warning: {cut}"]


def _data_settings(net: Any, solver: Any) -> DataSettings:
    state = NetState("TRAIN", solver.train_state.level, tuple(solver.train_state.stage))
    layers = [layer for layer in active_layers(net, state) if not layer.bottom]
    found = ", ".join(layer.type for layer in layers) or "none"
    if len(layers) != 1 or layers[0].type != "CPMData" or len(layers[0].top) != 2:
        raise UserError(
            f"net {net.name!r}: wanted one data layer of type CPMData with tops for images and labels, "
            f"got {found}"
        )
    layer = layers[0]
    param = layer.transform_param
    if not (layer.cpmdata_param.batch_size and param.stride):
        raise UserError(f"layer {layer.name!r}: wanted batch_size and stride of at least 1")
    # Fields of the augmentation with the file's or Caffe's values, switches only where the file sets them.
    settings = {field.name: value for field, value in param.ListFields()}
    settings |= {name: getattr(param, name) for name in ExactConfig.__dataclass_fields__}
    settings |= {name: getattr(param, name) for name in ("sigma", "sigma_center")}
    typed = {name: as_typed(value) if isinstance(value, float) else value for name, value in settings.items()}
    for name, value in typed.items():
        if isinstance(value, float) and not (math.isfinite(value) and (value > 0 or name not in _POSITIVE)):
            wanted = "a positive" if name in _POSITIVE else "a finite"
            raise UserError(f"layer {layer.name!r}: {name}: wanted {wanted} number, got {value:g}")
    return DataSettings(
        source=layer.cpmdata_param.source,
        batch=layer.cpmdata_param.batch_size,
        augment=ExactConfig.from_transform_param(typed),
        parts=param.num_parts,
        stride=param.stride,
        sigma=typed["sigma"],
        sigma_center=typed["sigma_center"],
        tops=(layer.top[0], layer.top[1]),
    )
