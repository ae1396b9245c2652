"""What ``cpm study`` is asked for, and what no study can work with: told without waiting for torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cpm_repro.config import TrainConfig, check, preset
from cpm_repro.errors import UserError
from cpm_repro.studies.names import chosen_names


@dataclass(frozen=True)
class Request:
    """What the user asked for; None keeps the preset's (or ``quick``'s) own."""

    names: Sequence[str]
    out: Path
    data: str = "synthetic"
    preset: str | None = None
    parts: int | None = None
    minutes: float | None = None
    iterations: int | None = None
    seeds: int = 3
    jobs: int | None = None
    device: str | None = None
    quick: bool = False
    command: str = "cpm study"


def quick_base() -> TrainConfig:
    """Half as wide as ``tiny``, crops of 96 px, 200 updates.

    As in the paper (160 of 368 px), stage 1 sees about half of the crop, and what is beyond is left to the
    later stages: features of 1x1 bring its field to 52 px. With tiny's own 3x3 it is 164 px, all of the crop.
    """
    base = preset("tiny")
    return replace(
        base,
        network=replace(base.network, width=0.125, features="1"),
        augment=replace(base.augment, crop=96),
        minutes=None,
        iterations=200,
        validate_people=200,
    )


def asked_config(request: Request) -> TrainConfig:
    """The preset with the data, the number of parts and the budget that were asked for.

    Raises:
        UserError: an unknown study or preset, options that contradict one another, a number that no study can
            work with.
    """
    chosen_names(request.names)
    if request.seeds < 1:
        raise UserError(f"--seeds: wanted at least 1, got {request.seeds}")
    if request.jobs is not None and request.jobs < 1:
        raise UserError(f"--jobs: wanted at least 1, got {request.jobs}")
    if request.quick and request.preset is not None:
        raise UserError("--quick has a network of its own: leave --preset out")
    base = quick_base() if request.quick else preset(request.preset or "tiny")
    if request.parts is not None:
        base = replace(base, network=replace(base.network, parts=request.parts))
    if request.minutes is not None or request.iterations is not None:
        base = replace(base, minutes=request.minutes, iterations=request.iterations)
    base = replace(base, data=request.data)
    check(base)
    return base
