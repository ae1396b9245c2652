"""Verbs that train: demo, train, study."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from cpm_repro.cli.parser import (
    add_device,
    add_verb,
    refuse_missing,
    refuse_missing_data,
    refuse_unknown_architecture,
)
from cpm_repro.config import check, explained, preset, requested, solver_options
from cpm_repro.errors import UserError
from cpm_repro.studies.names import ALL, STUDY_NAMES
from cpm_repro.studies.request import Request, asked_config


def add_demo(verbs: Any) -> None:
    """``cpm demo``."""
    sub = add_verb(
        verbs,
        "demo",
        "train a small pose machine on rendered people, score it, and draw what it sees",
        "cpm demo --out demo_output",
    )
    sub.add_argument(
        "--out",
        type=Path,
        default=Path("demo_output"),
        help="folder for everything it makes (default: %(default)s)",
    )
    sub.add_argument("--minutes", type=float, default=None, help="training time (default: the demo's own)")
    sub.add_argument("--seed", type=int, default=0)

    def run(options: argparse.Namespace) -> None:
        from cpm_repro.demo import demo

        demo(options.out, minutes=options.minutes, seed=options.seed)

    sub.set_defaults(run=run)


def add_train(verbs: Any) -> None:
    """``cpm train``."""
    sub = add_verb(
        verbs,
        "train",
        "train a pose machine and leave a run folder",
        "cpm train --preset tiny --data path/to/lspet --minutes 15 --out runs/lspet",
    )
    sub.add_argument("--preset", help="named configuration to start from (default: tiny)")
    sub.add_argument(
        "--explain",
        metavar="PRESET",
        help="print a preset, as other options change it, and how it differs from the release",
    )
    sub.add_argument(
        "--solver", type=Path, help="train what a Caffe solver prototxt says, and write Caffe snapshots"
    )
    sub.add_argument("--snapshot", type=Path, help="with --solver: go on after this .solverstate")
    sub.add_argument("--arch", help="architecture; takes the preset of the same name when there is one")
    sub.add_argument(
        "--data", help="'synthetic' or a folder in the LSP-extended layout (joints.mat, images/)"
    )
    sub.add_argument("--out", type=Path, help="run folder (default: runs/<preset>)")
    sub.add_argument(
        "--weights", help="start from the weights of this run or file, by layer name as Caffe fine-tunes"
    )
    sub.add_argument("--vgg19", help="start the VGG networks' trunk from an ILSVRC or torchvision VGG-19")
    sub.add_argument("--iterations", type=int, help="budget in updates: reproducible bit for bit on a CPU")
    sub.add_argument("--minutes", type=float, help="budget in minutes")
    sub.add_argument("--batch", type=int)
    sub.add_argument("--stages", type=int)
    sub.add_argument(
        "--parts", type=int, help="number of parts that the data labels, where the network has another"
    )
    sub.add_argument("--width", type=float, help="width of hidden layers relative to the released network")
    sub.add_argument(
        "--lr", type=float, help="learning rate; with Muon AdamW's part alone, see solver.muon_lr"
    )
    sub.add_argument(
        "--scheme",
        help="end-to-end, stage-wise, stage-wise-then-end-to-end or last-stage-loss: the paper's (i) to (iv)",
    )
    sub.add_argument("--seed", type=int)
    sub.add_argument(
        "--workers",
        type=int,
        help="threads that prepare batches (default: 1 on a CPU, which has other work; up to 8 beside a GPU)",
    )
    add_device(sub)
    sub.add_argument("--checkpoint-iterations", type=int, help="save every so many updates")
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting, for instance solver.schedule=linear",
    )
    sub.add_argument("--resume", action="store_true", help="go on after the run folder's last checkpoint")

    def run(options: argparse.Namespace) -> None:
        if options.snapshot is not None and options.solver is None:
            raise UserError("--snapshot goes with --solver; to go on with a run of ours give --resume")
        if "RANK" not in os.environ:  # the ranks of torchrun refuse together, in one line
            for name in (options.preset, options.explain):
                if name is not None:
                    preset(name)
            refuse_unknown_architecture(options.arch)
            refuse_missing("a solver prototxt", options.solver)
            refuse_missing("a .solverstate", options.snapshot)
            refuse_missing("a run folder or weight file", options.weights, options.vgg19)
            refuse_missing_data(options.data)
            if options.explain is not None:
                check(explained(vars(options)))
            elif options.solver is not None:
                solver_options(vars(options))
            else:
                check(requested(vars(options))[0])
        from cpm_repro.training import train_from_options

        train_from_options(vars(options))

    sub.set_defaults(run=run)


def add_study(verbs: Any) -> None:
    """``cpm study``."""
    sub = add_verb(
        verbs,
        "study",
        "answer the paper's research questions: train variants, measure, draw, and give a verdict",
        "cpm study all --quick --out studies\n"
        "  cpm study stages supervision --data path/to/lspet --minutes 20 --seeds 3",
    )
    sub.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help=f"{', '.join(STUDY_NAMES)}, or {ALL}",
    )
    sub.add_argument("--data", default="synthetic", help="'synthetic' or the path of a data set")
    sub.add_argument("--preset", help="named configuration that the variants change (default: tiny)")
    sub.add_argument(
        "--parts", type=int, help="number of parts that the data labels, where the network has another"
    )
    sub.add_argument("--minutes", type=float, help="budget of each run in minutes")
    sub.add_argument("--iterations", type=int, help="budget of each run in updates")
    sub.add_argument("--seeds", type=int, default=3, help="runs per variant; 3 are the least that decide")
    sub.add_argument("--jobs", type=int, help="runs at a time (default: one per GPU, else per core)")
    add_device(sub)
    sub.add_argument("--quick", action="store_true", help="a smaller network and budget, to see everything")
    sub.add_argument(
        "--out",
        type=Path,
        default=Path("studies"),
        help="folder; the same command goes on there (default: %(default)s)",
    )

    def run(options: argparse.Namespace) -> None:
        given = {name: value for name, value in vars(options).items() if name not in ("verb", "run")}
        request = Request(**given, command=_study_command(given))
        asked_config(request)  # refuses what needs no torch to be refused
        refuse_missing_data(options.data)
        from cpm_repro.studies.command import run_studies

        run_studies(request)

    sub.set_defaults(run=run)


def _study_command(given: dict[str, Any]) -> str:
    """The command line again, without a machine's folders."""
    words = ["cpm study", *given["names"]]
    for name, value in given.items():
        if name in ("names", "out", "jobs") or value is None or value is False:
            continue
        words.append(
            f"--{name}" if value is True else f"--{name} {Path(value).name if name == 'data' else value}"
        )
    return " ".join(words)
