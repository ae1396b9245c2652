"""What a run starts from: its people, its network, and weights instead of the network's fillers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cpm_repro.caffe.weight_files import load_weights, read_weight_file
from cpm_repro.config import TrainConfig
from cpm_repro.data import PoseDataset, Readable, check_scales, open_dataset
from cpm_repro.errors import UserError
from cpm_repro.inference.weights import build_from, compare_parts
from cpm_repro.model import PoseMachine, describe, initialise, initialise_from_vgg19, load_by_name
from cpm_repro.ops._checks import MAX_STAGES
from cpm_repro.skeleton import Skeleton, Visibility
from cpm_repro.training.person import PersonCentres
from cpm_repro.weight_paths import weight_file_of


def open_people(config: TrainConfig) -> tuple[PoseDataset, PoseDataset]:
    """The people that are trained on, and those held out.

    Raises:
        UserError: no such data, fewer people than a batch, nobody held out, or a body that cannot be scored.
    """
    train = open_dataset(config.data, "train", seed=config.seed)
    held_out = open_dataset(config.data, "val", seed=config.seed, size=config.validate_people)
    person = describe(config.network.arch).input_blob == "image"
    if person:
        train, held_out = PersonCentres(train), PersonCentres(held_out)
    if len(train) < config.solver.batch:
        raise UserError(
            f"{config.data}: wanted at least one batch of {config.solver.batch} people, got {len(train)}: as "
            f"many or fewer are asked for with `cpm train --batch`"
        )
    if train.skeleton.torso is None and len(train.skeleton) > 1:
        parts = train.skeleton.parts
        raise UserError(
            f"{config.data}: its skeleton names no torso, the distance by which scores are divided: "
            f"write a skeleton.toml beside the data with a line parts = {json.dumps(parts)} and a line "
            f"torso = {json.dumps(parts[:2])}, or two others"
        )
    check_held_out(config.data, held_out)
    check_scales(config.data, config.augment, train)
    return train, held_out


def check_held_out(spec: str, people: PoseDataset) -> None:
    """Refuse (UserError) to score nobody: those whom the data set called ``spec`` holds out.

    Files whose people say their split are refused when they are opened; this is for those who are held out
    by their number and cannot be used, and for people without a torso: a long run would end without a score
    and without a best checkpoint.
    """
    if not len(people):
        raise UserError(
            f"{spec}: nobody is held out who can be scored: the people who would be (of LSP-extended every "
            f"18th, the first among them) have no usable label or picture; see cpm data check"
        )
    torso = people.skeleton.torso
    if torso is not None and not _any_torso(people, torso):
        ends = " and ".join(people.skeleton.parts[end] for end in torso)
        raise UserError(
            f"{spec}: nobody of the {len(people)} held out can be scored: wanted somebody with both {ends}, "
            f"by whose distance scores are divided; name another torso in skeleton.toml, or hold out others"
        )


def _any_torso(people: PoseDataset, torso: tuple[int, int]) -> bool:
    """Whether the torso of anybody can be measured; as a rule the first one's can.

    Raises:
        UserError: no picture can be read.
    """
    readable, ends = Readable(people), list(torso)
    readable.first(range(len(people)))
    for sample in filter(None, map(readable.read, range(len(people)))):
        labelled = (sample.visible[0, ends] != Visibility.CROPPED).all()
        if labelled and np.ptp(sample.joints[0, ends], axis=0).any():
            return True
    return False


def check_parts(config: TrainConfig, labelled: int, parts: int) -> None:
    """Refuse (UserError) a network of ``parts`` parts on data that labels another number of them."""
    if parts != labelled:
        raise UserError(
            f"{config.data} labels {labelled} parts, the network {config.network.arch} has {parts}: "
            f"give --parts {labelled} to train one for this data"
        )


def build_net(config: TrainConfig, labelled: int) -> PoseMachine:
    """The network with its fillers' weights, for data of so many ``labelled`` parts.

    Raises:
        UserError: the configuration's network has another number, or more stages than can be trained.
    """
    net = build_from(config.network)
    if net.stages > MAX_STAGES:
        raise UserError(
            f"training runs 1 to {MAX_STAGES} stages, the network has {net.stages}: lower --stages"
        )
    check_parts(config, labelled, net.parts)
    initialise(net, config.solver.initialisation, torch.Generator().manual_seed(config.seed))
    return net


def start_from(net: PoseMachine, config: TrainConfig, skeleton: Skeleton) -> str:
    """Load what ``config.vgg19`` and then ``config.weights`` name into ``net``.

    Weights go to the layers of the same name; layers the network lacks are ignored, layers of another shape
    or name stay at their filler, as when Caffe fine-tunes.

    ``skeleton`` is that of the data.

    Returns:
        Which layers were loaded, left at their filler and ignored, to be shown; empty when nothing was named.

    Raises:
        UserError: a file that cannot be read, or no VGG-19, or a network that does not begin with VGG-19;
            weights of fewer stages than the network has, of no layer of its, or for parts of other names.
    """
    said = []
    if config.vgg19 is not None:
        report = initialise_from_vgg19(net, load_weights(config.vgg19), source=config.vgg19)
        said.append(f"VGG-19 from {Path(config.vgg19).name}: {report}")
    if config.weights is not None:
        file = weight_file_of(config.weights)
        name = file.relative_to(Path(config.weights).parent)  # of a run folder with what is taken of it
        given = read_weight_file(file)
        weights = given.weights
        _check_stages(net, weights, str(name))
        report = load_by_name(net, weights, strict=False, source=config.weights)
        if not report.loaded:  # a run from the fillers would look like one from these weights
            first = next(iter(net.state_dict()))
            raise UserError(
                f"{config.weights}: wanted weights of this network's layers, such as {first}, got "
                f"{len(weights)} arrays of other names or shapes"
            )
        theirs = given.about.skeleton if given.about else None
        said.append(f"weights from {name}: {report}")
        if order := compare_parts(config.weights, theirs, config.data, skeleton):
            said.append(f"warning: {order}: belief maps begin with the wrong parts")
    return "\n".join(said)


def _check_stages(net: PoseMachine, weights: Mapping[str, Any], source: str) -> None:
    """Refuse weights of fewer stages than the network has: the rest would silently stay at its filler.

    A later stage is told by any of its layers: what the last is called depends on the kernels.
    """
    later = range(2, net.stages + 1)
    has = [f"{net.output_layers[0]}.weight" in weights]
    has += [any(key.endswith(f"_stage{stage}.weight") for key in weights) for stage in later]
    if has[0] and not all(has):
        count = has.index(False)
        stages = "1 stage" if count == 1 else f"{count} stages"
        raise UserError(
            f"{source} has weights of {stages}, the network has {net.stages}: give --stages {count}"
        )
