"""``cpm export``: weights of any kind into a file that other programs run."""

from __future__ import annotations

import json
from pathlib import Path

from cpm_repro.config import AugmentConfig, person_share
from cpm_repro.inference.weights import load_model
from cpm_repro.model.export import ExportReport, export_onnx, export_program
from cpm_repro.paths import wanted_suffix
from cpm_repro.weight_paths import EXPORTED

_COLOURS = "B, G, R as pixel / 256 - 0.5"
_CENTRE = (
    "then exp(-d^2 / (2 s^2)), 0 where that is below 0.01, of the distance d to the person's centre, "
    "s = 21 / 368 of the longer side"
)


def export_weights(
    weights: Path,
    target: Path,
    arch: str | None = None,
    size: tuple[int, int] | None = None,
    stages: int | None = None,
    *,
    parts: int | None = None,
    width: float | None = None,
    peaks: bool = False,
) -> ExportReport:
    """Write ``weights`` as ``target`` (``.onnx`` or ``.pt2``) and measure how well the two agree.

    Args:
        weights: as in :func:`cpm_repro.inference.weights.load`. arch, parts, width: of the weights, where
            neither the file nor its shapes tell.
        target: its suffix chooses the format.
        size: input (height, width) in pixels; None takes the crop that the weights were trained on.
        stages: run only so many. peaks: x, y and score of each part instead of the belief maps.

    The file keeps the notes ``parts`` (the names in the outputs' order, JSON) and ``input``, which ends with
    how large people are to be shown.

    Raises:
        UserError: another suffix, unusable weights, or what the exporters refuse.
    """
    export = export_onnx if wanted_suffix(target, EXPORTED) == ".onnx" else export_program
    model = load_model(weights, arch, parts=parts, width=width)
    if size is None and model.net.input_channels == 4:
        size = (model.augment.crop, model.augment.crop)
    pose = f"{_COLOURS}, {_CENTRE}; {_size(model.augment)}"
    notes = {"input": pose if model.net.input_channels == 4 else _COLOURS}
    if model.skeleton is not None:
        notes["parts"] = json.dumps(model.skeleton.parts)
    return export(model.net, target, size=size, stages=stages, peaks=peaks, notes=notes)


def _size(augment: AugmentConfig) -> str:
    """How large people were while a network was trained, in words."""
    what = (
        "the longer side of their joints' box" if augment.method == "box" else "a height (200 x MPII's scale)"
    )
    return f"people as large as in training, {what} of {person_share(augment) * augment.crop:.0f} px"
