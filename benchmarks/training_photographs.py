"""Does the trainer's speed buy accuracy? The ``tiny`` preset against a plain PyTorch script, equal minutes.

Both train the same network with the same optimiser, schedule and augmentation on the same photographs, one
after the other, each alone in its own process; then both final states are scored on the held-out people by
the same code and compared person by person.

    python benchmarks/training_photographs.py --data path/to/lspet --minutes 20 --out runs/photographs \\
        --report benchmarks/results/DATE-training-photographs.md

The trainer's network can be shipped with the package, which is for a person to decide by the scores:

    python -m cpm_repro.training.bundle runs/photographs/ours cpm_repro/weights/tiny-lspet.safetensors
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from cpm_repro.config import preset
from cpm_repro.data import open_dataset
from cpm_repro.environment import in_one_line
from cpm_repro.errors import told_in_one_line
from cpm_repro.evaluation import ScoreTable, bootstrap_interval, paired_bootstrap, stage_table
from cpm_repro.files import atomic_write
from cpm_repro.inference.weights import load
from cpm_repro.markdown import table
from cpm_repro.training.run_folder import RunFolder
from cpm_repro.training.sharding import Cores
from cpm_repro.training.validate import predict_dataset, score_stages
from cpm_repro.viz.plots import pck_over_time

Record = dict[str, Any]
HERE = Path(__file__).parent


def main() -> None:
    """Train both, score both, write the report and its figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder in the layout of LSP-extended")
    parser.add_argument("--minutes", type=float, default=20.0, help="for each of the two")
    parser.add_argument("--people", type=int, help="validate on the first so many (default: all)")
    parser.add_argument("--out", type=Path, required=True, help="folder for both runs")
    parser.add_argument("--report", type=Path, help="Markdown file; the figure goes beside it")
    options = parser.parse_args()
    ours, plain = options.out / "ours", options.out / "plain"
    budget = ["--data", options.data, "--minutes", str(options.minutes)]
    people = ["--set", f"validate_people={options.people}"] if options.people else []
    trainer = ["-m", "cpm_repro", "train", "--preset", "tiny", *budget, "--out", str(ours), *people]
    subprocess.run([sys.executable, *trainer], check=True)
    people = ["--people", str(options.people)] if options.people else []
    script = [str(HERE / "plain_training.py"), *budget, "--out", str(plain), *people]
    subprocess.run([sys.executable, *script], check=True)

    tables = {
        "trainer": _score(ours / "checkpoints" / "last.pt", options.data, options.people),
        "plain PyTorch": _score(plain / "last.safetensors", options.data, options.people),
    }
    records = {"trainer": RunFolder(ours).records(), "plain PyTorch": RunFolder(plain).records()}
    lines = [
        f"# Photographs: tiny, {options.minutes:g} minutes, the trainer beside a plain PyTorch script",
        "",
        in_one_line(),
        "",
    ]
    lines += _summary(tables, records)
    if options.report:
        figure = options.report.with_suffix(".png")
        pck_over_time(records, figure)
        lines += ["", f"![PCK@0.2 per stage against time]({figure.name})"]
    text = "\n".join(lines) + "\n"
    if options.report:
        with atomic_write(options.report, "w") as file:
            file.write(text)
    print(text)


def _score(weights: Path, data: str, people: int | None) -> list[ScoreTable]:
    dataset = open_dataset(data, "val", size=people)
    with Cores(torch.get_num_threads()) as cores:
        predictions = predict_dataset(load(weights, "tiny"), dataset, preset("tiny").augment, cores)
    return score_stages(predictions, dataset)


def _summary(tables: dict[str, list[ScoreTable]], records: dict[str, list[Record]]) -> list[str]:
    batch = preset("tiny").solver.batch
    rows, rates = [], {}
    for name, stages in tables.items():
        last = max(records[name], key=lambda record: record["iteration"])
        rates[name] = last["iteration"] * batch / last["seconds"]
        interval = bootstrap_interval(stages[-1])["Total"]
        totals = " / ".join(f"{stage.total:.2f}" for stage in stages)
        rows.append(
            [
                name,
                f"{last['iteration']} of {batch} people",
                f"{rates[name]:.1f}",
                totals,
                f"{interval.low:.1f} to {interval.high:.1f}",
            ]
        )
    ours, plain = tables["trainer"][-1], tables["plain PyTorch"][-1]
    paired = paired_bootstrap(ours, plain)
    head = ("", "updates", "samples/s", "PCK@0.2 per stage", "last stage, 95 % interval")
    lines = [
        table(head, rows, "lrrl"),
        "",
        f"The trainer makes {rates['trainer'] / rates['plain PyTorch']:.2f} times the samples a second. Last "
        f"stage, trainer minus plain script: {paired.difference:+.2f} points (paired bootstrap over people, "
        f"95 %: {paired.low:+.2f} to {paired.high:+.2f}, p = {paired.p_value:.3f}).",
        "",
        "Asked for: the trainer is not below, that is, the interval does not lie wholly below zero "
        f"({_verdict(paired.high >= 0)}); it is ahead in samples/s "
        f"({_verdict(rates['trainer'] > rates['plain PyTorch'])}).",
        "",
        "Validation on the way counts as time in both. Scores are those of the final states. The plain "
        "script is an eager loop in float32; the trainer computes in bfloat16 where the processor has it.",
    ]
    for name, stages in tables.items():
        lines += ["", f"## {name}", "", stage_table(stages)]
    return [*lines, "", ours.protocol]


def _verdict(reached: bool) -> str:
    return "reached" if reached else "missed"


if __name__ == "__main__":
    with told_in_one_line("training_photographs"):
        main()
