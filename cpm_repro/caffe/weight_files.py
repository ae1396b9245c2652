"""One view of every weight file people own: caffemodel, safetensors, our checkpoints, plain state dicts.

Weights are {``<layer>.weight`` / ``<layer>.bias``: tensor}; nothing in a file is ever executed.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cpm_repro.caffe.caffemodel import read_model, write_caffemodel
from cpm_repro.caffe.generate import deploy_message
from cpm_repro.config import ARCHITECTURES, NetworkConfig, TrainConfig, to_dict
from cpm_repro.errors import UserError, first_line
from cpm_repro.files import atomic_write
from cpm_repro.model import NetDescription, PoseMachine, build, describe
from cpm_repro.model.about import About, about_from_json, about_to_json
from cpm_repro.model.checkpoint_file import (
    CHECKPOINT_FORMAT,
    check_weights,
    checked,
    content_digest,
    is_checkpoint,
    read_torch_file,
)
from cpm_repro.paths import wanted_file, wanted_suffix
from cpm_repro.weight_paths import KINDS

_MOST_STAGES = 32  # looked for when a network is told by its shapes
_BLOB_NAMES = ("weight", "bias")
_FEATURES = {"9x9": ("conv4_stage1", "conv5_stage1"), "vgg": ("conv4_1",), "person": ("conv4_1",)}
"""By family, a convolution of each of the feature kernels (:class:`cpm_repro.config.Kernels`)."""


@dataclass(frozen=True)
class Network:
    """Which network weights belong to; all numbers resolved."""

    arch: str
    stages: int
    parts: int
    width: float
    features: str | None = None  # None: the architecture's own
    refine: str | None = None

    def describe(self) -> NetDescription:
        """The network's layers."""
        return describe(
            self.arch, self.stages, self.parts, self.width, features=self.features, refine=self.refine
        )

    def build(self, *, filled: bool = True) -> PoseMachine:
        """The network itself; ``filled`` as in :func:`cpm_repro.model.build`."""
        return build(**dataclasses.asdict(self), filled=filled)


@dataclass(frozen=True)
class WeightFile:
    """What a weight file holds.

    ``network`` is None where neither file nor shapes tell, ``about`` where the file does not say how its
    weights were trained.
    """

    path: Path
    weights: dict[str, Tensor]
    network: Network | None
    about: About | None = None


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """{``<layer>.weight`` / ``<layer>.bias``: tensor} of a .caffemodel, .safetensors, .pt, .pth, .ckpt file.

    Errors as in :func:`read_weight_file`.
    """
    return read_weight_file(path).weights


def read_weight_file(path: str | Path) -> WeightFile:
    """Weights and, where the file or the shapes tell, the network they belong to.

    A third and further array of a layer (BatchNorm) is called ``blob2``, ``blob3``, ...

    Raises:
        UserError: no such file, an unknown kind of file, damaged, or without weights.
    """
    path = Path(path)
    kind = kind_of(path)
    wanted_file(path, "a file of weights")
    if kind == "caffemodel":
        file = WeightFile(path, _read_caffemodel(path), None)
    elif kind == "safetensors":
        file = _read_safetensors(path)
    else:
        file = _read_checkpoint(path)
    if not file.weights:
        raise UserError(f"{path}: holds no weights")
    return dataclasses.replace(file, network=file.network or identify(file.weights))


def write_weight_file(
    path: str | Path, weights: Mapping[str, Tensor], network: Network | None, about: About | None = None
) -> None:
    """Write ``weights`` in the format of ``path``'s suffix, atomically.

    A checkpoint needs ``network``; the other formats take weights of any net. A caffemodel has no place for
    ``about``.

    Raises:
        UserError: an unknown suffix, a checkpoint of an unknown network, names that are not
            ``<layer>.<blob>``.
        EnvironmentFailure: the file cannot be written.
    """
    path = Path(path)
    kind = kind_of(path)
    if kind == "caffemodel":
        net = deploy_message(network.describe()) if network else None
        write_caffemodel(path, by_layer(weights), net)
    elif kind == "safetensors":
        _write_safetensors(path, weights, network, about)
    else:
        _write_checkpoint(path, weights, network, about)


def kind_of(path: Path) -> str:
    """``caffemodel``, ``safetensors`` or ``checkpoint``, by suffix."""
    return KINDS[wanted_suffix(path, KINDS)]


def by_layer(weights: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    """{layer: [arrays in Caffe's order]} from {``<layer>.<blob>``: tensor}; layers in order of appearance."""
    layers: dict[str, dict[int, Tensor]] = {}
    for key, value in weights.items():
        layer, _, blob = key.rpartition(".")
        later = re.fullmatch(r"blob([2-9]|[1-9][0-9])", blob)
        place = _BLOB_NAMES.index(blob) if blob in _BLOB_NAMES else int(later[1]) if later else -1
        if not layer or place < 0:
            raise UserError(f"wanted weights called <layer>.weight and <layer>.bias, got {key!r}")
        layers.setdefault(layer, {})[place] = value
    for layer, blobs in layers.items():
        if sorted(blobs) != list(range(len(blobs))):
            raise UserError(f"layer {layer!r} has a later array but not the ones before it")
    return {layer: [blobs[place] for place in sorted(blobs)] for layer, blobs in layers.items()}


def identify(weights: Mapping[str, Tensor]) -> Network | None:
    """The network whose parameters have exactly these names and shapes; None if there is none.

    An architecture's own numbers go before others, then its own width: ``tiny`` of other parts is a narrow
    VGG network, too, which nobody has. Of networks that are alike (mpii_6stage and lsp_6stage) the first is
    named.
    """
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    candidates = [_released(arch) for arch in ARCHITECTURES]
    guesses = [network for arch in ARCHITECTURES if (network := _guess(arch, shapes))]
    candidates += sorted(guesses, key=lambda network: network.width != _released(network.arch).width)
    for network in candidates:
        if network.describe().parameter_shapes() == shapes:
            return network
    return None


def numbers_of(arch: str, weights: Mapping[str, Tensor]) -> Network:
    """``arch`` with the stages, parts, width and kernels that ``weights`` have; its own where none fit.

    Other weights may be there too.

    Raises:
        UserError: an unknown architecture.
    """
    released = _released(arch)
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    for network in (released, _guess(arch, shapes)):
        if network and network.describe().parameter_shapes().items() <= shapes.items():
            return network
    return released


def _released(arch: str) -> Network:
    own = describe(arch)
    return Network(arch, own.stages, own.parts, own.width)


def _guess(arch: str, shapes: Mapping[str, tuple[int, ...]]) -> Network | None:
    """The numbers and kernels of ``arch`` that convolutions of these shapes would have."""
    features, refine = _kernels(arch, shapes)
    try:
        own = describe(arch, stages=_MOST_STAGES, width=1.0, features=features, refine=refine)
    except UserError:  # windows that no network of ours has
        return None
    beliefs = [shapes.get(f"{blob}.weight", ()) for blob in own.belief_blobs]
    if not beliefs[0]:
        return None
    stages, parts = sum(map(bool, beliefs)), beliefs[0][0] - (own.maps - own.parts)
    width = _width(own, shapes)
    return Network(arch, stages, parts, width, features, refine) if parts >= 1 and 0 < width <= 64 else None


def _kernels(arch: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str | None, str | None]:
    """``features`` and ``refine`` as convolutions of these shapes have them; None: ``arch``'s own, or absent.

    The names of a stage's last layers depend on them: read as if of the usual kernels, all stages but the
    first would seem to be missing.
    """
    own = ARCHITECTURES[arch]
    refining = itertools.takewhile(
        lambda name: f"{name}.weight" in shapes, (f"Mconv{i}_stage2" for i in itertools.count(1))
    )
    features = _sides(_FEATURES[own.family], shapes)
    refine = _sides(refining, shapes)[:-2]  # two of 1x1 end the stage
    return _unusual(features, own.kernels.features), _unusual(refine, own.kernels.refine)


def _sides(layers: Iterable[str], shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Of those of the ``layers`` that are there, the side of the window."""
    return tuple(
        shapes[f"{name}.weight"][-1] for name in layers if len(shapes.get(f"{name}.weight", ())) == 4
    )


def _unusual(sides: tuple[int, ...], own: tuple[int, ...]) -> str | None:
    """``sides`` as a text, if there are any and they are not the architecture's ``own``."""
    return "-".join(map(str, sides)) if sides and sides != own else None


def _width(released: NetDescription, shapes: Mapping[str, tuple[int, ...]]) -> float:
    """A width at which the hidden convolutions of ``released`` have these numbers of channels; 0 without any.

    Each is rounded to whole channels, which leaves an interval of widths: the first convolution's own ratio
    if it lies there, else the shortest decimal (0.3 makes 19 of 64 channels and 154 of 512).
    """
    low, high, ratio = 0.0, math.inf, 0.0
    for layer in released.convolutions:
        shape = shapes.get(f"{layer.name}.weight")
        if not shape or layer.name in released.belief_blobs or layer.num_output is None:
            continue
        ratio = ratio or shape[0] / layer.num_output
        low = max(low, (shape[0] - 0.5) / layer.num_output if shape[0] > 1 else 0.0)
        high = min(high, (shape[0] + 0.5) / layer.num_output)
    if low <= ratio <= high:
        return ratio
    decimals = (round((math.floor(low * 10**digits) + 1) / 10**digits, digits) for digits in range(1, 9))
    return next((width for width in decimals if low < width < high), ratio)


def _read_caffemodel(path: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for layer in read_model(path).layers:
        for place, blob in enumerate(layer.blobs):
            key = f"{layer.name}.{_BLOB_NAMES[place] if place < 2 else f'blob{place}'}"
            if key in weights:
                raise UserError(f"{path}: two layers with weights are both called {layer.name!r}")
            weights[key] = torch.from_numpy(blob)
    return weights


def _read_safetensors(path: Path) -> WeightFile:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not an intact safetensors file ({first_line(error)})") from error
    check_weights({key: value for key, value in weights.items() if key.endswith((".weight", ".bias"))}, path)
    try:
        about = about_from_json(metadata["about"]) if "about" in metadata else None
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if "arch" not in metadata:
        return WeightFile(path, _unwrapped(weights), None, about)
    try:
        network = Network(
            metadata["arch"], int(metadata["stages"]), int(metadata["parts"]), float(metadata["width"]),
            metadata.get("features"), metadata.get("refine"),
        )  # fmt: skip
        order = network.describe().parameter_shapes()
    except (KeyError, ValueError, UserError) as error:
        raise UserError(f"{path}: its metadata names no network ({first_line(error)})") from error
    # The format sorts by name; give back the network's own order where it is known.
    weights = {key: weights[key] for key in sorted(weights, key=_places(order))}
    return WeightFile(path, weights, network, about)


def _places(order: Mapping[str, Any]) -> Any:
    places = {key: place for place, key in enumerate(order)}
    return lambda key: (places.get(key, len(places)), key)


def _write_safetensors(
    path: Path, weights: Mapping[str, Tensor], network: Network | None, about: About | None
) -> None:
    from safetensors.torch import save

    metadata = {"format": "pt"}
    if network:
        named = dataclasses.asdict(network).items()
        metadata |= {key: str(value) for key, value in named if value is not None}
    if about:
        # A file that is passed on names its data; the place where they lay is nobody's business.
        metadata["about"] = about_to_json(dataclasses.replace(about, trained_on=Path(about.trained_on).name))
    raw = save({key: value.detach().cpu().contiguous() for key, value in weights.items()}, metadata)
    with atomic_write(path) as file:
        file.write(raw)


def _read_checkpoint(path: Path) -> WeightFile:
    """One of our checkpoints, or a plain state dict (also under the key ``state_dict``)."""
    values = read_torch_file(path)
    if is_checkpoint(values):
        values = checked(values, path)
        config = values["config"]
        own = config.network
        # The number of parts may be the data set's; the configuration then leaves it open.
        parts = own.parts if own.parts is not None or not values["skeleton"] else len(values["skeleton"])
        description = describe(own.arch, own.stages, parts, own.width)
        network = Network(
            own.arch, description.stages, description.parts, description.width, own.features, own.refine
        )
        about = About(config.augment, config.data, values["skeleton"])
        return WeightFile(path, values["model"], network, about)
    if isinstance(values, dict) and isinstance(values.get("state_dict"), dict):
        values = values["state_dict"]
    if not isinstance(values, dict) or not values:
        raise UserError(f"{path}: wanted a checkpoint of ours or a state dict, got something else")
    check_weights(values, path)
    return WeightFile(path, _unwrapped(values), None)


def _unwrapped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what DataParallel, DistributedDataParallel and torch.compile put before every name."""
    for prefix in ("module.", "_orig_mod."):
        if weights and all(key.startswith(prefix) for key in weights):
            return _unwrapped({key.removeprefix(prefix): value for key, value in weights.items()})
    return weights


def _write_checkpoint(
    path: Path, weights: Mapping[str, Tensor], network: Network | None, about: About | None
) -> None:
    if network is None:
        raise UserError(f"{path}: these weights are of no network we know; a checkpoint needs arch=")
    own = NetworkConfig(**dataclasses.asdict(network))
    config = TrainConfig(name=path.stem, network=own)
    if about is not None:
        config = dataclasses.replace(config, augment=about.augment, data=about.trained_on)
    values = {
        "format": CHECKPOINT_FORMAT,
        "config": json.dumps(to_dict(config)),
        "iteration": 0,
        "seconds": 0.0,
        "best": 0.0,
        "model": {key: value.detach().cpu().clone() for key, value in weights.items()},
        "optimizers": [],
    }
    if about is not None and about.skeleton is not None:
        values["skeleton"] = json.dumps(about.skeleton.to_dict())
    buffer = io.BytesIO()  # torch.save turns a write that fails into a RuntimeError
    torch.save({**values, "digest": content_digest(values)}, buffer)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())
