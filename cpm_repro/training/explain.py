"""What a preset is, and where it leaves the release."""

from __future__ import annotations

from cpm_repro.config import (
    PRECISIONS,
    REMARKS,
    TrainConfig,
    cut_off,
    differences,
    flat,
    reference_of,
    to_dict,
)

_ORDER = "people come in a new order at every pass; the release reads its LMDB in one order, again and again"


def explain(config: TrainConfig) -> str:
    """Every setting of a preset, or of what was made of it, and its differences from the released recipe."""
    lines = [f"{key} = {value}" for key, value in flat(to_dict(config)).items()]
    return "\n".join([f"preset {config.name}", *(f"  {line}" for line in lines), "", *compared(config)])


def compared(config: TrainConfig) -> list[str]:
    """Lines that say what a run does otherwise than the release, and what of the release is not known.

    A last one warns of a crop that people do not fit into.
    """
    reference = reference_of(config)
    found = differences(config)
    if found:
        head = [f"differences from the release's recipe {reference}:"]
    else:
        head = [f"no differences from the release's recipe {reference}"]
    precision = config.solver.precision
    said = PRECISIONS.get(precision, "there is none")  # what was typed is not checked yet
    remarks = [f"precision {precision}: {said}", _ORDER, *REMARKS.get(reference, ())]
    cut = cut_off(config.augment)
    warnings = [] if cut is None else [f"warning: {cut}"]
    return [*head, *(f"  {line}" for line in found), *(f"  note: {remark}" for remark in remarks), *warnings]
