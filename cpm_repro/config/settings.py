"""Frozen, typed configurations: what can be set, and its defaults.

``override`` applies a user's changes and refuses names and types that do not fit.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from cpm_repro.errors import UserError

FULL_CROP = 368
"""Side of the released networks' square input, pixels (paper section 4.1)."""

TINY_CROP = 128
"""Side of the ``tiny`` network's square input, pixels."""

CENTER_SIGMA_AT_FULL_CROP = 21.0
"""Standard deviation of the centre map at a 368 px crop (spec `transform.md`); other crops scale it."""

TRUNCATED_BELIEF = 0.15
"""A part whose highest belief is not above this is taken to be outside the image (spec `inference.md`)."""

SCHEMES = {
    "end-to-end": "(i) all stages together, a loss at every stage",
    "stage-wise": "(ii) each stage alone, earlier ones frozen, then stacked",
    "stage-wise-then-end-to-end": "(iii) as (i), started from (ii)",
    "last-stage-loss": "(iv) all stages together, a loss at the last stage only",
}
"""Training schemes and what each does, with the paper's numbering (section 4.2)."""


PRECISIONS = {
    "auto": "bf16 where the processor or GPU multiplies it natively, float32 elsewhere",
    "float32": "on a GPU too: TF32 is off in convolutions and matrix products",
    "tf32": "float32 whose products a GPU may round to 10 bits of the mantissa; float32 on a CPU",
    "bf16": "bfloat16 convolutions, float32 weights and loss",
    "fp16": "float16 convolutions under a loss scale, float32 weights and loss",
}
"""What ``solver.precision`` may be, and what is computed then. The loss is float32 always."""


@dataclass(frozen=True)
class NetworkConfig:
    """Which pose machine: ``None`` keeps the architecture's own number.

    ``features`` and ``refine`` are the windows that set how far it sees, such as "3" and "7-7-7-7-7".
    """

    arch: str = "tiny"
    stages: int | None = None
    parts: int | None = None
    width: float | None = None
    features: str | None = None
    refine: str | None = None


@dataclass(frozen=True)
class AugmentConfig:
    """How a person becomes a square crop.

    The person is brought to one size, times a multiplier drawn from [scale_min, scale_max]; the crop is
    rotated by up to ``rotate`` degrees either way, mirrored with probability ``flip``, and its centre moved
    by up to ``shift`` of the crop's side in x and y. ``method`` says which size, and how it is done:

    - ``"box"``: the longer side of the box that holds the labelled joints, around the centre that the data
      gives or else its own, becomes ``fill * crop`` pixels; one warp.
    - ``"exact"``: the data set's scale becomes ``target_dist``, by the release's own steps and pixels.
    - ``"fast"``: the same geometry as ``"exact"`` in one warp, for a fraction of the time.
    - ``"device"``: as ``"fast"``, the warp on the device that trains; the processor only decodes and cuts.

    What the release does not have is off by default (`data/beyond.py`): ``half_body``, the probability of a
    crop around the upper or the lower body alone; ``occlusion``, that of a rectangle of noise over a part of
    the crop; ``photometric``, how far brightness, contrast, saturation and colour may change, as a share.
    """

    crop: int = TINY_CROP
    method: str = "box"
    fill: float = 0.72
    target_dist: float = 1.171
    scale_min: float = 0.7
    scale_max: float = 1.3
    rotate: float = 40.0
    flip: float = 0.5
    shift: float = 0.0
    half_body: float = 0.0
    occlusion: float = 0.0
    photometric: float = 0.0


@dataclass(frozen=True)
class TargetConfig:
    """Belief-map targets: Gaussian ``sigma`` in crop pixels on a grid of ``stride`` (spec `transform.md`)."""

    sigma: float = 7.0
    stride: int = 8


@dataclass(frozen=True)
class SolverConfig:
    """How the weights are found.

    ``schedule`` is ``"cosine"`` (to zero over the budget), ``"linear"`` (flat, then linearly to zero over
    the last ``decay_share`` of the budget) or ``"step"`` (Caffe: times ``gamma`` every ``stepsize``
    iterations). ``precision`` is what convolutions compute in (:data:`PRECISIONS`).
    ``accumulate`` is the number of passes that a batch is split into and ``recompute`` drops every stage's
    activations until the backward pass makes them again: both spare memory and leave the update as it is,
    ``accumulate`` up to the order of sums and what dropout draws. A resumed run may change both.
    ``muon_lr`` is the step of the matrices under ``optimizer="muon"``, ``lr`` then that of all other
    parameters. ``average`` is the share of the old value that an exponential moving average of the weights
    keeps at each update (0: no average); where it is on, the average is what is validated and what a
    checkpoint is used for. ``compile`` runs the network through torch.compile on a GPU.
    """

    optimizer: str = "adamw"
    lr: float = 2e-3
    muon_lr: float = 0.02
    weight_decay: float = 0.01
    momentum: float = 0.9
    schedule: str = "cosine"
    decay_share: float = 0.5
    gamma: float = 0.333
    stepsize: int = 136106
    warmup: int = 50
    clip: float = 0.0
    batch: int = 16
    initialisation: str = "kaiming"
    precision: str = "auto"
    average: float = 0.0
    compile: bool = False
    accumulate: int = 1
    recompute: bool = False


@dataclass(frozen=True)
class TrainConfig:
    """One training run, complete: what a run folder's ``config.json`` holds.

    The budget is ``iterations`` or ``minutes`` (whichever ends first; at least one is set). Under
    ``minutes`` the schedule follows the clock, so only ``iterations`` runs are reproducible bit for bit.
    ``weights`` (any weight file) are loaded by layer name before the first update, as Caffe fine-tunes;
    ``vgg19`` are an ILSVRC caffemodel's or torchvision's VGG-19 for the trunk of the VGG networks.
    The held-out people (the first ``validate_people``, None: all) are scored after every ``validate_every``
    of the budget. ``scheme`` is how stages are trained (:data:`SCHEMES`, the paper's (i) to (iv));
    ``stage_wise_share`` is the part of the budget that ``stage-wise-then-end-to-end`` spends stage by stage.
    ``record_gradients`` measures every layer's gradient at every so many updates (None: not at all).
    ``workers`` are the threads that prepare batches, which do not depend on their number; None: as many as
    suit the machine, and the number is in the run's ``config.json``.
    """

    name: str = "run"
    data: str = "synthetic"
    weights: str | None = None
    vgg19: str | None = None
    network: NetworkConfig = field(default_factory=NetworkConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    solver: SolverConfig = field(default_factory=SolverConfig)
    scheme: str = "end-to-end"
    stage_wise_share: float = 0.5
    seed: int = 0
    iterations: int | None = None
    minutes: float | None = None
    workers: int | None = None
    validate_every: float = 0.25
    validate_people: int | None = None
    checkpoint_minutes: float = 1.0
    checkpoint_iterations: int | None = None
    record_gradients: int | None = None


def unknown(kind: str, name: str, known: Mapping[str, Any] | list[str], whole: str | None = None) -> str:
    """One line for an unknown name: the nearest known one, and all of them; ``whole`` is what was typed.

    Of more than :data:`_LISTED` only the nearest are listed.
    """
    near = difflib.get_close_matches(name, list(known), n=5, cutoff=0.4)
    hint = f"; did you mean {near[0]}?" if near else ""
    if len(known) <= _LISTED:
        return f"unknown {kind} {whole or repr(name)}{hint} (known: {', '.join(known)})"
    some = f"{len(known)} are known, near it: {', '.join(near)}" if near else f"{len(known)} are known"
    return f"unknown {kind} {whole or repr(name)}{hint} ({some})"


_LISTED = 40


ConfigT = TypeVar("ConfigT")


def override(config: ConfigT, changes: Mapping[str, Any]) -> ConfigT:
    """A copy of ``config`` with dotted names changed: ``{"solver.lr": 1e-3, "seed": 4}``."""
    for dotted, value in changes.items():
        config = _override_one(config, dotted.split("."), value, dotted)
    return config


def _override_one(config: ConfigT, path: list[str], value: Any, dotted: str) -> ConfigT:
    names = [item.name for item in dataclasses.fields(config)]  # type: ignore[arg-type]
    if path[0] not in names:
        raise UserError(unknown("setting", path[0], names, whole=dotted))
    if len(path) > 1:
        inner = getattr(config, path[0])
        if not dataclasses.is_dataclass(inner):
            raise UserError(f"setting {dotted}: {path[0]} has no settings of its own")
        value = _override_one(inner, path[1:], value, dotted)
    else:
        value = _fitting(value, get_type_hints(type(config))[path[0]], dotted)
    return dataclasses.replace(config, **{path[0]: value})  # type: ignore[type-var]


def _fitting(value: Any, wanted: Any, dotted: str) -> Any:
    """``value`` if it is of the setting's type; whole numbers fit where fractions are wanted."""
    kinds = get_args(wanted) or (wanted,)
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds):
        return value
    name = " or ".join("nothing" if kind is NoneType else kind.__name__ for kind in kinds)
    raise UserError(f"setting {dotted}: wanted {name}, got {value!r}")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under their dotted names."""
    named: dict[str, Any] = {}
    for name, value in values.items():
        named |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return named


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Plain nested dictionaries, for JSON and checkpoints."""
    return dataclasses.asdict(config)


def from_dict(values: Mapping[str, Any]) -> TrainConfig:
    """The inverse of :func:`to_dict`; an unknown or missing name is the file's fault and says so."""
    parts = {
        "network": NetworkConfig,
        "augment": AugmentConfig,
        "target": TargetConfig,
        "solver": SolverConfig,
    }
    try:
        nested = {name: _typed(kind(**values[name]), f"{name}.") for name, kind in parts.items()}
        return _typed(TrainConfig(**{**values, **nested}), "")
    except (TypeError, KeyError) as error:
        raise UserError(f"this configuration does not fit this version of cpm_repro: {error}") from error


def _typed(config: ConfigT, prefix: str) -> ConfigT:
    """``config`` after a look at the type of every setting: a file's words are not believed."""
    for name, wanted in get_type_hints(type(config)).items():
        _fitting(getattr(config, name), wanted, prefix + name)
    return config


def center_sigma(crop: int) -> float:
    """Centre-map sigma for a square crop: 21 px at 368, in proportion elsewhere."""
    return CENTER_SIGMA_AT_FULL_CROP * crop / FULL_CROP
