"""``cpm study``: from names and options to trained variants, analysed and written up."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cpm_repro.checklist.verdicts import StudyVerdict
from cpm_repro.config import TrainConfig, check
from cpm_repro.device import usable_device
from cpm_repro.errors import UserError
from cpm_repro.studies.names import STUDY_NAMES, chosen_names
from cpm_repro.studies.plan import Material, Run, Study, Variant, described
from cpm_repro.studies.report import setting_of, summary, write_index, write_study
from cpm_repro.studies.request import Request, asked_config
from cpm_repro.studies.runs import default_jobs, read_run, train_all
from cpm_repro.training.schemes import check_budget, phases_of
from cpm_repro.training.start import check_parts, open_people

STUDIES: Mapping[str, Study] = {
    name: importlib.import_module(f"cpm_repro.studies.{name.replace('-', '_')}").STUDY for name in STUDY_NAMES
}
"""All studies by name, in the order they are run."""

RUNS = "runs"
_RECORDINGS = 20


def base_config(request: Request) -> TrainConfig:
    """The configuration that every variant changes.

    Raises:
        UserError: what no run can work with, or a network that finds no parts.
    """
    base = asked_config(request)
    if described(base.network).input_blob == "image":
        raise UserError(f"{base.name} finds people, not parts: studies want a pose network")
    every = max(1, base.iterations // _RECORDINGS) if base.iterations else 10
    return replace(
        base,
        name="study",
        network=replace(base.network, stages=described(base.network).stages),
        validate_every=1.0,
        record_gradients=every,
        workers=1,
    )


def run_studies(request: Request) -> list[StudyVerdict]:
    """Train what the named studies need, then analyse and write each; prints one paragraph per study.

    Runs go to ``out/runs``, shared between studies that need the same one; each study has its folder
    ``out/NAME``. The same command goes on after an interruption.

    Raises:
        UserError: unknown studies, contradicting options, unreadable data; before anything is trained.
        EnvironmentFailure: the disk is full, or a training process was killed.
    """
    studies = [STUDIES[name] for name in chosen_names(request.names)]
    base = base_config(request)
    usable_device(request.device)  # refused before anything is trained
    plans = {study.name: study.variants(base) for study in studies}
    base = replace(base, validate_people=_check(base, plans))
    seeds = range(request.seeds)
    runs = {
        run.name: run
        for variants in plans.values()
        for variant in variants
        for run in (_run(variant, seed) for seed in seeds)
    }
    folder = request.out / RUNS
    print(f"{len(runs)} runs for {', '.join(plans)}: {setting_of(base, request.seeds)}")
    train_all(list(runs.values()), folder, request.jobs or default_jobs(request.device), request.device)
    verdicts = []
    for study in studies:
        records = {
            variant.label: [read_run(_run(variant, seed), folder) for seed in seeds]
            for variant in plans[study.name]
        }
        material = Material(base, records, request.out / study.name, request.device)
        found = write_study(study, material, study.analyse(material), request.command)
        print(f"\n{found.paragraph}\n  {material.out / 'study.md'}", flush=True)
        verdicts.append(found)
    print(f"\n{summary(verdicts)}\n\nwritten to {write_index(request.out)}")
    return verdicts


def _run(variant: Variant, seed: int) -> Run:
    return Run(replace(variant.config, seed=seed))


def _check(base: TrainConfig, plans: Mapping[str, Sequence[Variant]]) -> int:
    """Refuse what would fail later, before the first run; how many people are held out to be scored."""
    train, held_out = open_people(base)
    check_parts(base, len(train.skeleton), described(base.network).parts)
    if train.skeleton.torso is None:
        raise UserError(f"{base.data}: its skeleton names no torso, by which studies divide distances")
    for variants in plans.values():
        for variant in variants:
            config = variant.config
            check(config)
            phases = phases_of(config.scheme, described(config.network).stages, config.stage_wise_share)
            check_budget(phases, config.iterations)
    return len(held_out)
