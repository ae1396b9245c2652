"""What the options of ``cpm train`` mean as a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cpm_repro.config.architectures import architecture
from cpm_repro.config.presets import PRESETS, preset
from cpm_repro.config.settings import FULL_CROP, TINY_CROP, NetworkConfig, TrainConfig, override
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
    """Name and value of ``NAME=VALUE``; a value that is no JSON is text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set wants NAME=VALUE, got {text!r}")
    try:
        return name, parse_json(value)
    except ValueError:
        return name, value
