"""``cpm export``: weights of any kind into a file that other programs run."""

from __future__ import annotations

from pathlib import Path

from cpm_repro.inference.weights import load_model
from cpm_repro.model.export import ExportReport, export_onnx, export_program
from cpm_repro.paths import wanted_suffix
from cpm_repro.weight_paths import EXPORTED


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

    Raises:
        UserError: another suffix, unusable weights, or what the exporters refuse.
    """
    export = export_onnx if wanted_suffix(target, EXPORTED) == ".onnx" else export_program
    model = load_model(weights, arch, parts=parts, width=width)
    if size is None and model.net.input_channels == 4:
        size = (model.augment.crop, model.augment.crop)
    return export(model.net, target, size=size, stages=stages, peaks=peaks)
