"""Prototxt files of the networks, written from our description of them (spec `networks.json`, `training.md`).

The files checked in under ``protos_reference`` are this module's output, and a test compares the two.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from cpm_repro.caffe.prototxt import format_prototxt
from cpm_repro.caffe.schema import new
from cpm_repro.config import (
    EPOCHS_PER_STEP,
    FULL_CROP,
    PEOPLE,
    AugmentConfig,
    SolverConfig,
    TargetConfig,
    center_sigma,
    lsp_6stage,
)
from cpm_repro.files import atomic_write
from cpm_repro.model import Layer, NetDescription, describe, describe_training

REFERENCE_NETS = ("mpii_6stage", "lsp_6stage", "flic_4stage", "mpii_vgg_6stage", "person_4stage")
"""The released networks, each with a folder of files under ``protos_reference``."""

_PEOPLE = {
    "mpii_6stage": PEOPLE["mpii"],
    "mpii_vgg_6stage": PEOPLE["mpii"],
    "lsp_6stage": PEOPLE["lsp"],
    "flic_4stage": PEOPLE["flic"],
}
_LMDB = {"lsp_6stage": "lmdb/LEEDS", "flic_4stage": "lmdb/FLIC"}
_MAX_ITER, _SNAPSHOT, _DISPLAY = 600_000, 1000, 5


class Prototxts(NamedTuple):
    """The three text files of one network."""

    deploy: str
    train_test: str
    solver: str

    def write(self, folder: str | Path) -> list[Path]:
        """Write pose_deploy, pose_train_test and pose_solver.prototxt into ``folder``; their paths."""
        paths = [Path(folder) / f"pose_{name}.prototxt" for name in self._fields]
        for path, text in zip(paths, self, strict=True):
            with atomic_write(path, "w") as file:
                file.write(text)
        return paths


def generate(
    arch: str, stages: int | None = None, parts: int | None = None, width: float | None = None
) -> Prototxts:
    """Deploy, training and solver prototxt of ``arch``; numbers as in :func:`cpm_repro.model.describe`.

    Raises:
        UserError: an unknown architecture, or a number out of range.
    """
    return Prototxts(
        deploy_text(describe(arch, stages, parts, width)),
        train_text(describe_training(arch, stages, parts, width)),
        solver_text(arch),
    )


def deploy_message(net: NetDescription) -> Any:
    """NetParameter of the deploy network, one Input layer in front."""
    message = new("NetParameter", name=net.arch)
    entry = message.layer.add(name=net.input_blob, type="Input", top=[net.input_blob])
    entry.input_param.shape.add(dim=net.input_shape)
    message.layer.extend(layer_message(layer) for layer in net)
    return message


def train_message(net: NetDescription) -> Any:
    """NetParameter of the training network ``net`` (from ``describe_training``), its data layer in front."""
    message = new("NetParameter", name=f"{net.arch}_train")
    message.layer.append(_hdf5_layer(net) if net.input_blob == "image" else _data_layer(net))
    message.layer.extend(layer_message(layer) for layer in net)
    return message


def deploy_text(net: NetDescription) -> str:
    """Prototxt of :func:`deploy_message`."""
    header = [f"{net.arch}: {_numbers(net)}.", "Written by cpm_repro from its own network description."]
    if net.input_blob == "image":
        header.append("Input: image = B, G, R as pixel / 256 - 0.5.")
    else:
        header.append("Input: data = B, G, R as pixel / 256 - 0.5, then the centre map.")
    return format_prototxt(deploy_message(net), header, _stage_comments(net))


def train_text(net: NetDescription) -> str:
    """Prototxt of :func:`train_message`; says at its top what was never published."""
    header = [
        f"{net.arch}, training: {_numbers(net)}.",
        "Written by cpm_repro from its own network description.",
    ]
    if net.input_blob == "image":
        header += [
            "OUR OWN CHOICE: a training file of this network was never released, and the released data",
            "layer cannot make its one-channel label. Images (N x 3 x H x W) and labels (N x 1 x H/8 x W/8)",
            "therefore come from HDF5 files, and every stage is compared with the same label.",
        ]
    elif net.arch == "mpii_6stage":
        header.append("Set the data layer's source to an LMDB of the training people.")
    elif net.arch in ("lsp_6stage", "flic_4stage"):
        header += [
            "OUR OWN CHOICE: the MPII network's training settings carried over to this data set;",
            "no such file is part of the release. Set source to an LMDB of the training people.",
        ]
    else:
        header += [
            "OUR OWN CHOICE: a training file of this network was never released. Data settings and losses",
            "are the MPII network's, rates are the deploy file's, without dropout.",
        ]
    return format_prototxt(train_message(net), header, _stage_comments(net))


def solver_message(arch: str) -> Any:
    """SolverParameter with the release's numbers (spec `training.md`) and ``arch``'s stepsize."""
    own: SolverConfig = lsp_6stage().solver
    return new(
        "SolverParameter",
        net="pose_train_test.prototxt",
        base_lr=own.lr,
        momentum=own.momentum,
        weight_decay=own.weight_decay,
        lr_policy="step",
        gamma=own.gamma,
        stepsize=stepsize(arch, own.batch),
        display=_DISPLAY,
        max_iter=_MAX_ITER,
        snapshot=_SNAPSHOT,
        snapshot_prefix="snapshots/pose",
        solver_mode=1,  # GPU
    )


def stepsize(arch: str, batch: int = 16) -> int:
    """Iterations between learning-rate steps: 84 epochs of the network's training people.

    The rule is our inference from MPII's published 136106 at batch 16. Networks without a training set of
    their own (person, tiny) take MPII's.
    """
    return EPOCHS_PER_STEP * _PEOPLE.get(arch, _PEOPLE["mpii_6stage"]) // batch


def solver_text(arch: str) -> str:
    """Prototxt of :func:`solver_message`; says where a number is not published."""
    people = _PEOPLE.get(arch)
    header = [f"Solver of {arch}, written by cpm_repro."]
    if arch == "mpii_6stage":
        header.append(f"stepsize = {EPOCHS_PER_STEP} epochs of {people} people at batch 16.")
    elif people is not None:
        header += [
            "OUR INFERENCE: this network's solver was never published. All numbers are the MPII network's;",
            f"stepsize follows the same rule, {EPOCHS_PER_STEP} epochs of {people} people at batch 16.",
        ]
    else:
        header += [
            "OUR OWN CHOICE: this network's solver and training set were never published; all numbers,",
            "stepsize too, are the MPII network's.",
        ]
    return format_prototxt(solver_message(arch), header)


def layer_message(layer: Layer) -> Any:
    """LayerParameter of one described layer."""
    message = new("LayerParameter", name=layer.name, type=layer.type, bottom=layer.bottom, top=layer.top)
    if layer.type == "Convolution":
        _convolution(message, layer)
    elif layer.type == "Pooling":
        pools = message.pooling_param.DESCRIPTOR.enum_types_by_name["PoolMethod"].values_by_name
        message.pooling_param.pool = pools[layer.pool].number
        message.pooling_param.kernel_size = layer.kernel_size
        message.pooling_param.stride = layer.stride
    elif layer.type == "Slice":
        message.slice_param.axis = layer.axis
        message.slice_param.slice_point.append(layer.slice_point)
    elif layer.type == "Concat":
        message.concat_param.axis = layer.axis
    elif layer.type == "Dropout":
        message.dropout_param.dropout_ratio = layer.dropout_ratio
    return message


def _convolution(message: Any, layer: Layer) -> None:
    for lr, decay in zip(layer.lr_mult or (), layer.decay_mult or (), strict=True):
        message.param.add(lr_mult=lr, decay_mult=decay)
    param = message.convolution_param
    param.num_output = layer.num_output
    param.kernel_size.append(layer.kernel_size)
    if layer.pad is not None:
        param.pad.append(layer.pad)
    for filler, target in (
        (layer.weight_filler, param.weight_filler),
        (layer.bias_filler, param.bias_filler),
    ):
        if filler is not None:
            target.type = filler.type
            if filler.std is not None:
                target.std = filler.std


def _data_layer(net: NetDescription) -> Any:
    """The original's augmenting data layer with the release's settings, scaled to the net's input size."""
    layer = new("LayerParameter", name="data", type="CPMData", top=["data", "label"])
    source, backend = _LMDB.get(net.arch, "lmdb/MPI"), layer.cpmdata_param.DESCRIPTOR.enum_types_by_name["DB"]
    layer.cpmdata_param.source = source
    layer.cpmdata_param.batch_size = SolverConfig().batch
    layer.cpmdata_param.backend = backend.values_by_name["LMDB"].number
    augment, target, crop = AugmentConfig(), TargetConfig(), net.input_shape[2]
    settings = {
        "stride": target.stride,
        "crop_size_x": net.input_shape[3],
        "crop_size_y": crop,
        "target_dist": round(augment.target_dist * crop / FULL_CROP, 4),
        "scale_prob": 1,
        "scale_min": augment.scale_min,
        "scale_max": augment.scale_max,
        "max_rotate_degree": augment.rotate,
        "center_perterb_max": augment.shift * crop,
        "flip_prob": augment.flip,
        "sigma": target.sigma,
        "sigma_center": round(center_sigma(crop), 4),
        "do_clahe": False,
        "num_parts": net.parts,
        "np_in_lmdb": 16 if net.parts == 14 else net.parts,
    }
    for name, value in settings.items():
        setattr(layer.transform_param, name, value)
    return layer


def _hdf5_layer(net: NetDescription) -> Any:
    layer = new("LayerParameter", name="data", type="HDF5Data", top=[net.input_blob, "label"])
    layer.hdf5_data_param.source = "hdf5/person.txt"
    layer.hdf5_data_param.batch_size = SolverConfig().batch
    return layer


def _numbers(net: NetDescription) -> str:
    maps = "belief map" if net.maps == 1 else "belief maps"
    return f"{net.stages} stages, {net.maps} {maps} of stride 8"


def _stage_comments(net: NetDescription) -> dict[str, str]:
    """{first layer of a stage: "stage N"}."""
    first: dict[int, str] = {}
    for layer in net:
        if layer.type in ("Convolution", "Concat"):
            numbered = re.search(r"_stage(\d+)$", layer.name)
            first.setdefault(int(numbered[1]) if numbered else 1, layer.name)
    return {name: f"stage {stage}" for stage, name in first.items()}
