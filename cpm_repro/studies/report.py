"""The folder of one study: page, tables, figures, the runs' JSON and the verdict."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cpm_repro.checklist.verdicts import FILE, StudyVerdict, read_verdict, write_verdict
from cpm_repro.config import TrainConfig, to_dict
from cpm_repro.data import data_name
from cpm_repro.environment import commit, environment
from cpm_repro.errors import UserError
from cpm_repro.files import atomic_write, write_json
from cpm_repro.markdown import table
from cpm_repro.studies.names import STUDY_NAMES
from cpm_repro.studies.plan import Finding, Material, RunRecord, Study, described


def setting_of(base: TrainConfig, seeds: int) -> str:
    """Data, network, budget and seeds in one line."""
    network = described(base.network)
    budgets = [f"{base.iterations} updates"] if base.iterations else []
    budgets += [f"{base.minutes:g} minutes"] if base.minutes else []
    people = f", {base.validate_people} held-out people" if base.validate_people else ""
    return (
        f"{data_name(base.data)} data, {network.arch} of width {network.width:g}, crop {base.augment.crop}, "
        f"{' or '.join(budgets)} of batch {base.solver.batch} per run, "
        f"{seeds} seed{'s' * (seeds != 1)}{people}"
    )


def paragraph_of(study: Study, finding: Finding, setting: str) -> str:
    """The verdict in one paragraph, computed from the numbers."""
    sentences = [study.question]
    by_reason: dict[tuple[str, str], list[str]] = {}
    for verdict in finding.verdicts:
        name = verdict.claim.removeprefix("study.").replace("_", " ").replace(".", ": ")
        by_reason.setdefault((verdict.value, verdict.reason), []).append(name)
    for (value, reason), names in by_reason.items():
        sentences.append(f"{', '.join(names).capitalize()}: **{value}** ({reason}).")
    if finding.remark:
        sentences.append(finding.remark)
    return " ".join([*sentences, f"Measured on {setting}."])


def write_study(study: Study, material: Material, finding: Finding, command: str) -> StudyVerdict:
    """Write everything below ``material.out``; the verdict last, so that whoever finds it finds all.

    Runs are kept between commands: if other code than today's trained them, the setting says which.
    """
    out = material.out
    runs = [record for records in material.runs.values() for record in records]
    seeds = len(next(iter(material.runs.values())))
    setting = setting_of(material.base, seeds)
    if older := sorted({run.commit for run in runs if run.commit} - {commit()}):
        setting += f", trained by commit {' and '.join(older)}"
    found = StudyVerdict(
        study.name, paragraph_of(study, finding, setting), setting, command, tuple(finding.verdicts)
    )
    write_json(
        out / "runs.json",
        {
            "study": study.name,
            "runs": [{"variant": v, **_plain(r, out)} for v, rs in material.runs.items() for r in rs],
            "numbers": dict(finding.numbers),
        },
    )
    with atomic_write(out / "study.md", "w") as file:
        file.write(_page(study, finding, found, runs))
    write_verdict(out / FILE, found)
    return found


def summary(verdicts: Sequence[StudyVerdict]) -> str:
    """One Markdown line per claim: study, claim, verdict and the numbers."""
    rows = []
    for found in verdicts:
        rows += [[found.study, one.claim, one.value, one.reason] for one in found.verdicts]
        if not found.verdicts:
            rows.append([found.study, "none of the paper's", "", "see its page"])
    return table(["study", "claim", "verdict", "numbers"], rows, "l")


def write_index(out: Path) -> Path:
    """``studies.md``: every study's verdicts in one table, with the way to their pages.

    Those of earlier commands with the same ``out`` are among them; verdicts that cannot be read are left out.
    """
    path, verdicts = out / "studies.md", []
    for name in STUDY_NAMES:
        with suppress(UserError):
            verdicts.append(read_verdict(out / name / FILE))
    settings = {found.setting for found in verdicts}
    measured = (
        f"Measured on {settings.pop()}.\n\n" if len(settings) == 1 else ""
    )  # else each page says its own
    pages = "\n".join(f"- [{found.study}]({found.study}/study.md): {found.paragraph}" for found in verdicts)
    with atomic_write(path, "w") as file:
        file.write(f"# Studies\n\n{measured}{summary(verdicts)}\n\n{pages}\n")
    return path


def _plain(record: RunRecord, out: Path) -> dict[str, object]:
    return {
        "seed": record.config.seed,
        "folder": os.path.relpath(record.folder, out),
        "iterations": record.iterations,
        "seconds": record.seconds,
        "pck": list(record.pck),
        "rows": list(record.rows),
        "thresholds": list(record.thresholds),
        "curves": [list(curve) for curve in record.curves],
        "config": {**to_dict(record.config), "data": data_name(record.config.data)},
    }


def _page(study: Study, finding: Finding, found: StudyVerdict, runs: Sequence[RunRecord]) -> str:
    here = environment()
    seconds = sum(record.seconds for record in runs)
    rows = [
        ("date", here["date"]),
        ("commit", here["commit"] or "not a checkout"),
        ("setting", found.setting),
        ("runs", f"{len(runs)}, {seconds / 60:.0f} minutes of training (other studies may share them)"),
        ("hardware", f"{here['gpu'] or here['processor']}, {here['threads']} threads"),
        ("versions", f"Python {here['python']}, torch {here['torch']}"),
        ("command", f"`{found.command}`"),
    ]
    parts = [f"# Study: {study.name}", found.paragraph, f"Rule, stated before the runs: {study.rule}"]
    for caption, picture in finding.figures.items():
        parts.append(f"![{caption}]({picture.name})\n\n{caption} (also as {picture.stem}.svg).")
    for caption, text in finding.tables.items():
        about = "Mean ± standard deviation over seeds.\n\n" if "±" in text else ""
        parts.append(f"## {caption}\n\n{about}{text}")
    parts.append(table(["run", ""], rows, "l"))
    return "\n\n".join(parts) + "\n"
