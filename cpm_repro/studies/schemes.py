"""``schemes``: the paper's four ways of training the same network, at one budget (section 4.2, RQ4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cpm_repro.checklist.verdicts import HOLDS, UNDECIDED, Verdict
from cpm_repro.config import SCHEMES, TrainConfig
from cpm_repro.markdown import table
from cpm_repro.studies.draw import line_with_spread
from cpm_repro.studies.plan import Finding, Material, Study, Variant, described, too_weak, verdict_of
from cpm_repro.studies.statistics import decide, mean_and_spread
from cpm_repro.viz.figure import GUIDE, figure_of, save_figure, series_colours

CLAIMS = ("study.schemes.joint", "study.schemes.recover", "study.schemes.intermediate")
RULE = (
    "Differences of the last stage's PCK@0.2, one per seed, at one number of updates for every scheme "
    "(phases share it); 95 % Student interval of their mean. Joint: (i) minus (ii) lies above 0. "
    "Intermediate: (i) minus (iv) lies above 0. Recover: (iii) minus the middle of (i) and (ii) lies above "
    "0; undecided where (i) does not beat (ii), since there is no gap then."
)
JOINT, STAGE_WISE, BOTH, LAST = SCHEMES
LABELS = {scheme: f"{text.split()[0]} {scheme}" for scheme, text in SCHEMES.items()}


def variants(base: TrainConfig) -> list[Variant]:
    """The base network under schemes (i) to (iv)."""
    return [Variant(label, replace(base, scheme=scheme)) for scheme, label in LABELS.items()]


def analyse(material: Material) -> Finding:
    """Verdicts, table and figure."""
    return Finding(
        verdicts=too_weak(CLAIMS, RULE, material.last(LABELS[JOINT])) or _verdicts(material),
        tables={"PCK@0.2 per stage under each scheme": _table(material)},
        figures={"PCK over its threshold, last stage": _draw(material)},
    )


def _verdicts(material: Material) -> tuple[Verdict, ...]:
    joint = decide(material.difference(LABELS[JOINT], LABELS[STAGE_WISE]))
    intermediate = decide(material.difference(LABELS[JOINT], LABELS[LAST]))
    scores = [material.last(LABELS[scheme]) for scheme in (JOINT, STAGE_WISE, BOTH)]
    recovered = decide([both - (i + ii) / 2 for i, ii, both in zip(*scores, strict=True)])
    verdicts = [verdict_of(CLAIMS[0], RULE, "(i) minus (ii)", joint)]
    if joint.value == HOLDS:
        verdicts.append(verdict_of(CLAIMS[1], RULE, "(iii) minus the middle of (i) and (ii)", recovered))
    else:
        reason = f"(i) does not clearly beat (ii) ({joint}), so there is no gap to recover; "
        more = joint.budget or "a budget at which joint training is ahead would decide"
        verdicts.append(Verdict(CLAIMS[1], UNDECIDED, RULE, reason + more, recovered.to_dict()))
    verdicts.append(verdict_of(CLAIMS[2], RULE, "(i) minus (iv)", intermediate))
    return tuple(verdicts)


def _table(material: Material) -> str:
    stages = described(material.base.network).stages
    rows: list[Sequence[str]] = []
    for label in LABELS.values():
        runs = material.runs[label]
        cells = [mean_and_spread([run.pck[stage] for run in runs]) for stage in range(stages)]
        rows.append([label, *cells, mean_and_spread(material.difference(label, LABELS[JOINT]))])
    return table(["scheme", *(f"stage {n}" for n in range(1, stages + 1)), "last stage minus (i)"], rows)


def _draw(material: Material) -> Path:
    with figure_of((6.5, 4.6), 1) as (figure, (axes,)):
        for label, colour in zip(LABELS.values(), series_colours(len(LABELS)), strict=True):
            runs = material.runs[label]
            score = mean_and_spread(material.last(label))
            curves = [run.curves[-1] for run in runs]
            line_with_spread(axes, runs[0].thresholds, curves, colour, f"{label}: {score}", "")
        axes.set(
            xlabel="threshold / torso", ylabel="PCK (%)", xlim=(0, 0.5), ylim=(0, 100),
            title="Training schemes, last stage: mean and range over seeds",
        )  # fmt: skip
        axes.axvline(0.2, **GUIDE)
        axes.legend(loc="upper left", fontsize=9)
        return save_figure(figure, material.out / "schemes")[0]


STUDY = Study(
    "schemes",
    "What does joint training with a loss at every stage gain over the other schemes?",
    RULE,
    variants,
    analyse,
)
