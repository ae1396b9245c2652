"""Runs that were never trained: what an analysis sees, with scores of our choosing."""

from dataclasses import replace
from pathlib import Path

from cpm_repro.evaluation.curves import AUC_THRESHOLDS
from cpm_repro.studies.plan import Material, RunRecord, described
from cpm_repro.studies.request import quick_base


def small_base():
    """A configuration that trains in a second."""
    base = quick_base()
    return replace(
        base,
        network=replace(base.network, width=0.03, stages=2),
        augment=replace(base.augment, crop=64),
        solver=replace(base.solver, batch=2),
        iterations=4,
        validate_people=6,
    )


def record(config, seed, pck, folder=Path("nowhere")):
    """A finished run whose stages score ``pck`` at 0.2, and in proportion at other thresholds."""
    curves = tuple(tuple(min(100.0, score * t / 0.2) for t in AUC_THRESHOLDS) for score in pck)
    return RunRecord(
        config=replace(config, seed=seed), folder=folder, thresholds=AUC_THRESHOLDS, curves=curves,
        pck=tuple(pck), rows=({},) * len(pck), iterations=4, seconds=1.0,
    )  # fmt: skip


def material(study, scores, out, base=None):
    """``scores`` maps a variant's label to PCK of its last stage per seed, or of every stage per seed."""
    base = base or quick_base()
    base = replace(base, network=replace(base.network, stages=described(base.network).stages))
    runs = {}
    for variant in study.variants(base):
        stages = described(variant.config.network).stages
        seeds = scores[variant.label]
        per_stage = [s if isinstance(s, (list, tuple)) else [s] * stages for s in seeds]
        runs[variant.label] = [record(variant.config, i, pck) for i, pck in enumerate(per_stage)]
    return Material(base, runs, out)
