"""What the options of ``cpm train`` mean as a configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cpm_repro.config.architectures import architecture
from cpm_repro.config.limits import check
from cpm_repro.config.presets import PRESETS, preset
from cpm_repro.config.settings import (
    FULL_CROP,
    TINY_CROP,
    NetworkConfig,
    TrainConfig,
    from_dict,
    override,
)
from cpm_repro.errors import UserError
from cpm_repro.files import parse_json

_DOTTED = {
    "arch": "network.arch",
    "data": "data",
    "weights": "weights",
    "vgg19": "vgg19",
    "stages": "network.stages",
    "parts": "network.parts",
    "width": "network.width",
    "batch": "solver.batch",
    "lr": "solver.lr",
    "scheme": "scheme",
    "seed": "seed",
    "workers": "workers",
    "checkpoint_iterations": "checkpoint_iterations",
}
"""Options that are one setting each, and its name."""

_WITH_SOLVER = ("data", "out", "snapshot", "weights", "iterations", "seed", "workers", "device")
"""Options that a solver prototxt's run has too."""

_OF_PRESETS = (
    *("preset", "arch", "vgg19", "minutes", "batch", "stages", "parts", "width", "lr", "scheme"),
    *("checkpoint_iterations", "resume"),
)
"""Options that it has not."""

_NOT_IN_SOLVERS = ("validate_every", "validate_people")
"""Settings that a solver prototxt does not say."""


def requested(options: Mapping[str, Any]) -> tuple[TrainConfig, Path]:
    """The configuration of the run that is asked for, and its folder; its numbers are not checked.

    A run that is gone on with has its own settings, and those that were given besides.

    Raises:
        UserError: an unknown name, a ``--set`` that is none, or a run folder of another network or of
            something else.
    """
    out: Path = options["out"] or Path("runs") / resolve(options).name
    started = out / "config.json"
    if not (options["resume"] and started.exists()):
        return resolve(options), out
    config = changed(_read_config(started), options)
    if options["preset"] is not None and preset(options["preset"]).network.arch != config.network.arch:
        raise UserError(f"{out} holds a run of {config.network.arch}, not of the preset {options['preset']}")
    return config, out


def explained(options: Mapping[str, Any]) -> TrainConfig:
    """The configuration that ``--explain`` is asked about: its preset, with what other options make of it.

    Raises:
        UserError: an unknown name, a ``--set`` that is none, or another run than a new one of this preset.
    """
    for name in ("preset", "solver", "resume"):
        if options[name]:
            raise UserError(
                f"--{name} does not go with --explain, which tells of a new run of the preset it names"
            )
    return resolve({**options, "preset": options["explain"]})


def _read_config(path: Path) -> TrainConfig:
    """The configuration a run was started with."""
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a run's configuration ({error})") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: not a run's configuration")
    return from_dict(values)


def solver_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """What of the options goes to a solver prototxt's run, ``out`` included, by its argument's name.

    Raises:
        UserError: an option or a ``--set`` whose thing the prototxt says, or a number that no run can work
            with.
    """
    for name in _OF_PRESETS:
        if options[name]:
            flag = f"--{name.replace('_', '-')}"
            raise UserError(
                f"{flag} does not go with --solver, whose prototxt says it (to go on: --snapshot)"
            )
    changes = dict(assignment(text) for text in options["set"])
    for name in changes:
        if name not in _NOT_IN_SOLVERS:
            raise UserError(
                f"--set {name} does not go with --solver, whose prototxt says it "
                f"(only {' and '.join(_NOT_IN_SOLVERS)} do)"
            )
    given = {name: options[name] for name in _WITH_SOLVER if options[name] is not None}
    numbers = {name: given[name] for name in ("iterations", "seed", "workers") if name in given}
    config = override(TrainConfig(iterations=1), numbers | changes)
    check(config)
    given.setdefault("out", Path("runs") / options["solver"].resolve().parent.name)
    if "weights" in given:
        given["weights"] = Path(given["weights"])
    return given | {name: getattr(config, name) for name in changes}


def resolve(options: Mapping[str, Any]) -> TrainConfig:
    """The complete configuration that the given options mean; its numbers are not checked.

    Raises:
        UserError: an unknown name, or a ``--set`` that is none.
    """
    arch = options["arch"]
    if arch is not None:
        architecture(arch)  # an unknown one is refused, not looked for among the presets
    name = options["preset"] or (arch if arch in PRESETS else "tiny")
    config = preset(name)
    if arch is not None and config.network.arch != arch:
        crop = TINY_CROP if arch == "tiny" else FULL_CROP
        config = replace(
            config,
            name=arch,
            network=NetworkConfig(arch=arch),
            augment=replace(config.augment, crop=crop),
        )
    return changed(config, options)


def changed(config: TrainConfig, options: Mapping[str, Any]) -> TrainConfig:
    """``config`` with every single option and ``--set`` that was given."""
    config = _budget(config, options)
    config = override(
        config, {dotted: options[name] for name, dotted in _DOTTED.items() if options[name] is not None}
    )
    return override(config, dict(assignment(text) for text in options["set"]))


def _budget(config: TrainConfig, options: Mapping[str, Any]) -> TrainConfig:
    """A budget on the command line replaces the preset's, whatever its unit."""
    if options["iterations"] is None and options["minutes"] is None:
        return config
    return replace(config, iterations=options["iterations"], minutes=options["minutes"])


def assignment(text: str) -> tuple[str, Any]:
    """Name and value of ``NAME=VALUE``: JSON, or as Python writes it (.5, True); anything else is text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set wants NAME=VALUE, got {text!r}")
    try:
        return name, parse_json(value)
    except ValueError:
        if _DECIMAL.fullmatch(value):
            return name, float(value)
        return name, _PYTHONS.get(value, value)


_DECIMAL = re.compile(r"[+-]?(\d+\.\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_PYTHONS = {"True": True, "False": False, "None": None}
