"""Trained weights from any file people own, with what must be known to use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cpm_repro.caffe.convert import choose_network, fitting
from cpm_repro.caffe.weight_files import WeightFile, read_weight_file
from cpm_repro.config import FULL_CROP, AugmentConfig, NetworkConfig, preset
from cpm_repro.errors import UserError
from cpm_repro.model import PoseMachine, build
from cpm_repro.paths import what_is_at
from cpm_repro.skeleton import Skeleton
from cpm_repro.weight_paths import weight_file_of

BUNDLED = Path(__file__).parents[1] / "weights" / "tiny-lspet.safetensors"
"""A small network that ships with the package; its card lies beside it."""


@dataclass(frozen=True)
class LoadedModel:
    """A network ready to run, and the crop it was trained on."""

    net: PoseMachine
    augment: AugmentConfig
    trained_on: str  # name or path of the training data, empty when unknown
    skeleton: Skeleton | None  # what the parts are, where the file says
    assumed: str = ""  # what was assumed of weights whose file does not say how they were trained


def build_from(network: NetworkConfig, parts: int | None = None) -> PoseMachine:
    """The network a configuration names; ``parts`` fills in what it leaves open."""
    given = {
        name: value
        for name, value in (
            ("stages", network.stages),
            ("parts", network.parts if network.parts is not None else parts),
            ("width", network.width),
            ("features", network.features),
            ("refine", network.refine),
        )
        if value is not None
    }
    return build(network.arch, **given)  # type: ignore[arg-type]


def load(
    path: str | Path,
    arch: str | None = None,
    *,
    stages: int | None = None,
    parts: int | None = None,
    width: float | None = None,
) -> PoseMachine:
    """A network with its weights, from any file that holds them: ready to run, in evaluation mode.

    Args:
        path: .caffemodel of either generation, .safetensors, one of our checkpoints or a plain state dict of
            ``<layer>.weight`` and ``<layer>.bias`` (.pt, .pth, .ckpt), or a run folder (its best checkpoint).
        arch: architecture of the weights; None takes what the file says, else the one whose parameters have
            exactly the file's names and shapes. Needed where several look alike (mpii_6stage and lsp_6stage
            do not differ).
        stages, parts, width: where neither the file nor its shapes tell them.

    Layers that the network lacks are ignored; all of its own must be there.

    Raises:
        UserError: nothing there, damaged, or weights that do not fit.
    """
    return _build(read_weight_file(weight_file_of(path)), arch, stages, parts, width)


def _build(
    given: WeightFile,
    arch: str | None,
    stages: int | None = None,
    parts: int | None = None,
    width: float | None = None,
) -> PoseMachine:
    network = choose_network(given, arch, stages, parts, width)
    if network is None:
        raise UserError(f"{given.path}: these weights are of no network we know; say which with arch")
    net = network.build(filled=False)
    # The arrays that were read become the parameters: a second copy of a large file would only cost memory.
    net.load_state_dict(_apart(fitting(given, network)), assign=True)
    return net.eval()


def _apart(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights as float32 tensors that have their memory to themselves, copied where they do not."""
    result: dict[str, Tensor] = {}
    taken: set[int] = set()
    for key, value in weights.items():
        tensor = value.detach().to("cpu", torch.float32).contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in taken or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        taken.add(tensor.untyped_storage().data_ptr())
        result[key] = tensor
    return result


def bundled_weights() -> Path:
    """The weights that ship with the package.

    Raises:
        UserError: they are not there, as in a copy that was made without them.
    """
    if not BUNDLED.exists():
        raise UserError(f"the bundled weights {BUNDLED.name} are not installed: give --weights")
    return BUNDLED


def own_data(model: LoadedModel, weights: str | Path) -> str:
    """The data that ``model``, read from ``weights``, was trained on: what it is scored on where nobody says.

    Raises:
        UserError: the file does not say, or the data are not here, as those of weights of somebody else.
    """
    data = model.trained_on
    if not data:
        raise UserError(f"{weights} does not say what it was trained on: give --data")
    if data != "synthetic" and not {"+", "@"} & set(data) and not what_is_at(data):
        raise UserError(f"{weights} was trained on {data}, which is not here: give --data")
    return data


def compare_parts(weights: str, theirs: Skeleton | None, data: str, ours: Skeleton) -> str:
    """Hold the parts that ``weights`` were trained for against those that ``data`` labels, by name.

    Returns:
        A line where only the order differs, else nothing; nothing too where the weights carry no names, or
        another number of parts: what gives a part's map is then of another shape.

    Raises:
        UserError: as many parts, of other names.
    """
    if theirs is None or len(theirs) != len(ours) or theirs.parts == ours.parts:
        return ""
    pairs = enumerate(zip(theirs.parts, ours.parts, strict=True), start=1)
    number, (their, our) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
    if set(theirs.parts) == set(ours.parts):
        return f"{data} has its parts in another order than {weights}: part {number} is {our}, was {their}"
    missing = next(part for part in ours.parts if part not in theirs.parts)
    raise UserError(
        f"{weights} was trained for other parts than {data} labels: {missing} is none of its {len(theirs)} "
        f"(its part {number} is {their}, the data's {our}); as a .caffemodel (cpm convert), which carries no "
        f"names, the weights are taken for any"
    )


def refuse_other_parts(model: LoadedModel, weights: str | Path, data: str, skeleton: Skeleton) -> None:
    """Before ``model``, read from ``weights``, is scored on ``data``, which labels the parts of ``skeleton``.

    Raises:
        UserError: they are not the network's, or in another order.
    """
    if len(skeleton) != model.net.parts:
        raise UserError(f"{data} labels {len(skeleton)} parts, the network has {model.net.parts}")
    if order := compare_parts(str(weights), model.skeleton, data, skeleton):
        raise UserError(f"{order}: scores would compare other parts")


def load_model(
    path: str | Path, arch: str | None = None, *, parts: int | None = None, width: float | None = None
) -> LoadedModel:
    """As :func:`load`, with the crop the weights were trained on (the usual one if the file does not say).

    Raises:
        UserError: as there; or a weight is not finite, as after a run that diverged.
    """
    given = read_weight_file(weight_file_of(path))
    net, about = _build(given, arch, parts=parts, width=width), given.about
    for name, weight in net.named_parameters():
        if not torch.isfinite(weight).all():
            raise UserError(f"{given.path}: wanted finite weights, got others in {name}")
    if about is not None:
        return LoadedModel(net, about.augment, about.trained_on, about.skeleton)
    tiny = net.arch == "tiny"
    augment = preset("tiny").augment if tiny else AugmentConfig(crop=FULL_CROP, method="exact")
    assumed = (
        f"{given.path} does not say how it was trained: taken for {net.arch} of {net.stages} stages and "
        f"{net.parts} parts, with crops of {augment.crop} pixels"
    )
    return LoadedModel(net, augment, "", None, assumed)
