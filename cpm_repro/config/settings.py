"""Frozen, typed configurations: what can be set, its defaults, and what no run can work with.

``override`` applies a user's changes and refuses names and types that do not fit.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
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


_FREE_ON_RESUME = (
    *("data", "iterations", "minutes", "workers", "checkpoint_", "validate_", "record_"),
    *("solver.accumulate", "solver.recompute", "solver.compile"),
)


def first_difference(old: TrainConfig, new: TrainConfig) -> str | None:
    """Name and values of the first setting that makes ``new`` another run than ``old``; None: the same run.

    Workers and when to save and validate do not touch what an update does. Passes, recomputation and
    compilation leave it as it is up to the order of sums and what dropout draws, and a run that does not fit
    its memory needs them. The budget may change although the schedules ``cosine`` and ``linear`` follow it
    (:func:`schedule_change` says so); not under a scheme of several phases, whose ends and beginnings it
    sets. Whether data at another place are the run's data is not seen here.
    """
    flat_old, flat_new = flat(to_dict(old)), flat(to_dict(new))
    phased = old.scheme.startswith("stage-wise")
    for name, value in flat_old.items():
        free = name.startswith(_FREE_ON_RESUME) and not (phased and name in ("iterations", "minutes"))
        if flat_new[name] != value and not free:
            return f"{name} = {value}, got {flat_new[name]}"
    return None


def schedule_change(old: TrainConfig, new: TrainConfig) -> str | None:
    """What another budget does to the rates of a run that goes on; None: nothing."""
    budgets = [_budget(old), _budget(new)]
    if budgets[0] == budgets[1] or new.solver.schedule == "step":
        return None
    return (
        f"the budget was {budgets[0]} and is {budgets[1]}: the schedule {new.solver.schedule} follows it, "
        f"and the rates of the updates to come are others than they would have been"
    )


def _budget(config: TrainConfig) -> str:
    iterations = [] if config.iterations is None else [f"{config.iterations} iterations"]
    return " or ".join(iterations + ([] if config.minutes is None else [f"{config.minutes:g} minutes"]))


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


_MOST_WORKERS = 256
"""Threads that prepare batches, each with batches of its own: more only fill the memory."""


def check(config: TrainConfig, ranks: int = 1) -> None:
    """Refuse numbers that no run of so many ``ranks`` can work with, before any work is done."""
    for name, value in flat(to_dict(config)).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name} must be finite, got {value}")
    solver, augment = config.solver, config.augment
    rules = [
        (solver.batch >= 1, f"batch must be at least 1, got {solver.batch}"),
        (solver.batch >= ranks, f"a batch of {solver.batch} cannot be shared by {ranks} ranks"),
        (solver.lr > 0, f"learning rate must be positive, got {solver.lr}"),
        (augment.crop >= 32, f"crop must be at least 32 px, got {augment.crop}"),
        (augment.target_dist > 0, f"target_dist must be positive, got {augment.target_dist}"),
        (0 <= augment.half_body <= 1, f"half_body must lie in [0, 1], got {augment.half_body}"),
        (0 <= augment.occlusion <= 1, f"occlusion must lie in [0, 1], got {augment.occlusion}"),
        (0 <= augment.photometric < 1, f"photometric must lie in [0, 1), got {augment.photometric}"),
        (
            augment.method != "device" or augment.occlusion == augment.photometric == 0,
            "augment.method=device does not go with occlusion or photometric: use fast",
        ),
        (0 <= augment.shift < 1, f"shift must lie in [0, 1), got {augment.shift}"),
        (0 < augment.fill <= 2, f"fill must lie in (0, 2], got {augment.fill}"),
        (
            0 < augment.scale_min <= augment.scale_max,
            f"scale range must be 0 < min <= max, got {augment.scale_min} to {augment.scale_max}",
        ),
        (
            config.target.sigma > 0 and config.target.stride > 0,
            f"sigma and stride must be positive, got {config.target.sigma} and {config.target.stride}",
        ),
        (0 <= config.seed < 2**31, f"seed must lie in 0 to 2^31 - 1, got {config.seed}"),
        (augment.crop % 8 == 0, f"crop must be a multiple of 8 px, got {augment.crop}"),
        (config.target.stride == 8, f"stride must be the networks' 8, got {config.target.stride}"),
        (0 <= augment.flip <= 1, f"flip must lie in [0, 1], got {augment.flip}"),
        (solver.muon_lr > 0, f"muon_lr must be positive, got {solver.muon_lr}"),
        (
            solver.weight_decay >= 0,
            f"weight_decay must not be negative, got {solver.weight_decay}",
        ),
        (0 <= solver.momentum < 1, f"momentum must lie in [0, 1), got {solver.momentum}"),
        (solver.clip >= 0, f"clip must not be negative (0: no clipping), got {solver.clip}"),
        (0 < solver.gamma <= 1, f"gamma must lie in (0, 1], got {solver.gamma}"),
        (solver.stepsize > 0, f"stepsize must be positive, got {solver.stepsize}"),
        (0 < solver.decay_share <= 1, f"decay_share must lie in (0, 1], got {solver.decay_share}"),
        (0 <= solver.average < 1, f"average must lie in [0, 1), got {solver.average}"),
        (
            1 <= solver.accumulate <= max(1, solver.batch),
            f"accumulate must lie in 1 to batch ({solver.batch}), got {solver.accumulate}",
        ),
        (solver.warmup >= 0, f"warmup must not be negative, got {solver.warmup}"),
        (
            config.checkpoint_iterations is None or config.checkpoint_iterations > 0,
            f"checkpoint_iterations must be positive, got {config.checkpoint_iterations}",
        ),
        (
            config.record_gradients is None or config.record_gradients > 0,
            f"record_gradients must be positive, got {config.record_gradients}",
        ),
        (
            config.validate_people is None or config.validate_people > 0,
            f"validate_people must be positive, got {config.validate_people}",
        ),
        (
            config.workers is None or 0 <= config.workers <= _MOST_WORKERS,
            f"workers must lie in 0 to {_MOST_WORKERS}, got {config.workers}",
        ),
        (
            config.iterations is not None or config.minutes is not None,
            "a training run needs a budget: iterations or minutes",
        ),
        (
            config.iterations is None or config.iterations > 0,
            f"iterations must be positive, got {config.iterations}",
        ),
        (
            config.minutes is None or 0 < config.minutes < 1e6,
            f"minutes must be positive and finite, got {config.minutes}",
        ),
        (0 < config.validate_every <= 1, f"validate_every must lie in (0, 1], got {config.validate_every}"),
        (
            0 < config.stage_wise_share < 1,
            f"stage_wise_share must lie between 0 and 1, got {config.stage_wise_share}",
        ),
    ]
    for holds, sentence in rules:
        if not holds:
            raise UserError(sentence)
    for kind, value, known in (
        ("augment.method", augment.method, ["box", "exact", "fast", "device"]),
        ("optimizer", solver.optimizer, ["adamw", "muon", "caffe_sgd"]),
        ("schedule", solver.schedule, ["cosine", "linear", "step"]),
        ("precision", solver.precision, list(PRECISIONS)),
        ("initialisation", solver.initialisation, ["caffe", "kaiming"]),
        ("scheme", config.scheme, list(SCHEMES)),
    ):
        if value not in known:
            raise UserError(unknown(kind, value, known))


def center_sigma(crop: int) -> float:
    """Centre-map sigma for a square crop: 21 px at 368, in proportion elsewhere."""
    return CENTER_SIGMA_AT_FULL_CROP * crop / FULL_CROP
