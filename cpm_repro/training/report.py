"""The report of a finished run: what was run, on what, how fast, how well; Markdown, HTML and a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from cpm_repro.config import TrainConfig
from cpm_repro.data import data_name
from cpm_repro.evaluation import ScoreTable, stage_table
from cpm_repro.files import atomic_write, write_json
from cpm_repro.markdown import table
from cpm_repro.training.journal import RISEN
from cpm_repro.training.loop import RunResult
from cpm_repro.training.run_folder import RunFolder

_LAST = 50
"""Updates at the end of a run that its losses are averaged over."""


@dataclass(frozen=True)
class Finished:
    """A finished run, as its report tells of it."""

    folder: Path
    name: str
    data: str  # the data set's own name
    network: str
    crop: str  # pixels
    batch: int  # people in an update
    optimizer: str
    scheme: str
    iterations: int
    seconds: float
    tables: list[ScoreTable]  # one per stage; none where nobody is held out

    @classmethod
    def of(cls, result: RunResult, config: TrainConfig) -> Finished:
        """A run of a configuration."""
        return cls(
            folder=result.folder,
            name=config.name,
            data=data_name(config.data),
            network=f"{config.network.arch}, {len(result.tables)} stages",
            crop=str(config.augment.crop),
            batch=config.solver.batch,
            optimizer=config.solver.optimizer,
            scheme=config.scheme,
            iterations=result.iterations,
            seconds=result.seconds,
            tables=result.tables,
        )

    @property
    def title(self) -> str:
        """What was run on what."""
        return f"{self.name} on {self.data}"


def report(run: Finished) -> None:
    """Print the final table of a run; save it, its curves, and both as one page (``report.html``)."""
    from cpm_repro.viz import curves  # matplotlib is slow to import
    from cpm_repro.viz.report_page import html_block, html_page

    folder = RunFolder(run.folder)
    text = report_text(run, folder.records(), folder.environment())
    with atomic_write(folder.path / "report.md", "w") as file:
        file.write(text)
    write_json(folder.path / "scores.json", [table.to_dict() for table in run.tables])
    picture, _ = curves(folder.records(), folder.path / "curves.png")
    with atomic_write(folder.path / "report.html", "w") as file:
        file.write(html_page(run.title, [html_block(text)], [picture]))
    print(f"\n{text}\nrun folder: {folder.path}")


def report_text(run: Finished, records: list[dict[str, Any]], started: dict[str, Any]) -> str:
    """The run in Markdown: what was run, on what, how fast, and the score of every stage.

    ``started`` is the environment that the run was started in.
    """
    steps = [record for record in records if record["kind"] == "train"]
    made = f"{run.iterations} of {run.batch} people, {run.optimizer}"
    if len(steps) < run.iterations:  # from a snapshot of another folder: time and records are of the rest
        made = f"{made}; here the last {len(steps)}, of which the next lines are"
    updating = max(sum(step["step_time"] for step in steps), 1e-9)  # seconds, waiting for data included
    waited = sum(step["data_time"] for step in steps) / updating
    samples, here = len(steps) * run.batch, started
    rows = [
        ("date", here["date"]),
        ("commit", here["commit"] or "not a checkout"),
        ("data", run.data),
        ("network", f"{run.network}, crop {run.crop}"),
        ("updates", made),
        ("scheme", run.scheme),
        ("time", f"{run.seconds / 60:.1f} min including validation on the way"),
        ("samples/s", f"{samples / max(run.seconds, 1e-9):.1f}, {samples / updating:.1f} while updating"),
        ("waiting for data", f"{100 * waited:.1f} % of step time"),
        ("hardware", f"{here['gpu'] or here['processor']}, {here['threads']} threads"),
        ("versions", f"Python {here['python']}, torch {here['torch']}"),
    ]
    head = table(["run", ""], rows, "l")
    if steps and RISEN in steps[-1]:
        head += (
            f"\n\nThe run diverged, as it seems: at its end {steps[-1][RISEN]}. A lower learning rate may do."
        )
    scores = scores_markdown(run.tables) if run.tables else "Nobody was held out: nothing is scored."
    return "\n\n".join([f"# {run.title}", head, scores, losses_markdown(steps)]) + "\n"


def losses_markdown(steps: list[dict[str, Any]]) -> str:
    """The last updates' loss of every stage: in Caffe's units, and as mean squared difference of a cell."""
    last = [step for step in steps[-_LAST:] if step["phase"] == steps[-1]["phase"]]
    last = [step for step in last if "loss_per_pixel" in step]  # folders of older versions have none
    if not last:
        return ""
    rows = [
        [
            str(stage),
            f"{fmean(s['loss'][stage - 1] for s in last):.3f}",
            f"{fmean(s['loss_per_pixel'][stage - 1] for s in last):.3e}",
        ]
        for stage in range(1, len(last[-1]["loss"]) + 1)
    ]
    return table(["Stage", f"Loss, Caffe's units, last {len(last)} updates", "per pixel"], rows, "l")


def scores_markdown(tables: list[ScoreTable]) -> str:
    """Per joint and per stage, with the rule the numbers were made by."""
    return f"{stage_table(tables)}\n\n{tables[-1].protocol}"
