"""Verbs that score: eval, checklist."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cpm_repro.cli.parser import (
    add_device,
    add_verb,
    refuse_missing,
    refuse_missing_data,
    refuse_unknown_architecture,
)
from cpm_repro.errors import UserError
from cpm_repro.paths import wanted_suffix
from cpm_repro.weight_paths import weight_file_of

PREDICTIONS = (".npz", ".mat", ".h5", ".hdf5")
"""Suffixes of files of predictions."""


def add_eval(verbs: Any) -> None:
    """``cpm eval``."""
    sub = add_verb(
        verbs,
        "eval",
        "score trained weights on held-out people, or a file of predictions by a published rule",
        "cpm eval --weights runs/lspet --data path/to/lspet\n  cpm eval --predictions flic_test.npz\n"
        "  cpm eval --weights pose_iter_395000.caffemodel --arch lsp_6stage --data path/to/lsp"
        " --procedure release --out runs/lsp_release",
    )
    what = sub.add_mutually_exclusive_group(required=True)
    what.add_argument("--weights", type=Path, help="run folder or weight file")
    what.add_argument("--predictions", type=Path, help="file of predictions (.npz, .mat, .h5)")
    sub.add_argument("--data", help="with --weights: data set (default: the one they were trained on)")
    sub.add_argument("--arch", help="with --weights: their architecture, where the file does not say")
    sub.add_argument(
        "--procedure",
        choices=["crop", "release"],
        default="crop",
        help="with --weights: one crop per person as in training, or the release's seven scales",
    )
    sub.add_argument(
        "--split",
        default="val",
        help="with --procedure release: val, all, or of MPII test (who stand apart) and test-all",
    )
    sub.add_argument("--first", type=int, help="with --procedure release: only the first so many people")
    sub.add_argument("--truth", type=Path, help="with --predictions: file of the truth, if it is another one")
    sub.add_argument("--protocol", help="with --predictions: lsp-pck, lspet-pck, flic-pck or mpii-pckh")
    sub.add_argument("--norm", help="with --predictions: the normaliser, where the protocol has several")
    sub.add_argument("--threshold", type=_share, help="with --predictions: share of the normaliser")
    sub.add_argument(
        "--compare", type=Path, help="with --predictions: a second file, compared person by person"
    )
    sub.add_argument("--images", type=Path, help="with --predictions: photographs, to draw the worst people")
    sub.add_argument("--keep-sides", action="store_true", help="flic-pck without turning the truth's sides")
    sub.add_argument("--out", type=Path, help="folder for the tables and curves")
    add_device(sub)

    def run(options: argparse.Namespace) -> None:
        _refuse_what_cannot_be_scored(options)
        if options.procedure == "release":
            from cpm_repro.inference.benchmark import evaluate_release

            chosen = {name: getattr(options, name) for name in ("arch", "device", "split", "first")}
            evaluate_release(options.weights, options.data, options.out, **chosen)
            return
        if options.weights is not None:
            from cpm_repro.training import evaluate_weights

            evaluate_weights(options.weights, options.data, options.out, options.arch, options.device)
            return
        from cpm_repro.viz.score_report import score_report

        score_report(
            options.predictions,
            options.truth,
            options.protocol,
            norm=options.norm,
            threshold=options.threshold,
            swap_to_observer=False if options.keep_sides else None,
            compare=options.compare,
            out=options.out,
            images=options.images,
        )

    sub.set_defaults(run=run)


def _refuse_what_cannot_be_scored(options: argparse.Namespace) -> None:
    """Options that do not go together, and files and names that are not there, before torch is imported."""
    _refuse_options_of_the_other(options)
    if options.procedure != "release" and (options.split != "val" or options.first is not None):
        raise UserError("--split and --first go with --weights and --procedure release")
    if options.images is not None and options.out is None:
        raise UserError("--images goes with --out, where the worst people are drawn")
    refuse_missing("a file of predictions", options.predictions, options.compare)
    for path in (options.predictions, options.compare):
        if path is not None:
            wanted_suffix(path, PREDICTIONS)
    refuse_missing("a file of the truth", options.truth)
    refuse_missing("a folder of photographs", options.images)
    refuse_missing_data(options.data)
    refuse_unknown_architecture(options.arch)
    if options.weights is not None:
        weight_file_of(options.weights)


def _share(text: str) -> float:
    """The type of --threshold."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"wanted a share above 0 and up to 1, such as 0.2, got {text}")
    return value


_share.__name__ = "float"  # as argparse calls it where the text is no number


def _refuse_options_of_the_other(options: argparse.Namespace) -> None:
    """Weights and files of predictions have options of their own: one that would do nothing is refused."""
    own = {
        "weights": ("data", "arch", "device"),
        "predictions": ("truth", "protocol", "norm", "threshold", "compare", "images", "keep_sides"),
    }
    other = "predictions" if options.weights is not None else "weights"
    for name in own[other]:
        if getattr(options, name) not in (None, False):
            raise UserError(f"--{name.replace('_', '-')} goes with --{other}")
    if other == "weights" and options.procedure != "crop":
        raise UserError("--procedure goes with --weights")


def add_checklist(verbs: Any) -> None:
    """``cpm checklist``."""
    sub = add_verb(
        verbs,
        "checklist",
        "check the paper's and the release's claims that can be checked here",
        "cpm checklist --out checklist --data path/to/data",
    )
    sub.add_argument(
        "--out", type=Path, default=Path("checklist"), help="folder of the checklist (default: %(default)s)"
    )
    sub.add_argument("--data", type=Path, help="folder with published_predictions/ (default: CPM_DATA)")
    sub.add_argument("--weights", type=Path, help="folder with the released .caffemodel files")
    sub.add_argument("--golden", type=Path, help="folder of golden arrays (default: CPM_GOLDEN)")
    sub.add_argument("--only", nargs="+", default=[], metavar="ID", help="measure only these claims anew")
    sub.add_argument(
        "--record",
        nargs="+",
        default=[],
        metavar="ID=SCORES.JSON[:ROW]",
        help="first take a score that cpm eval wrote as the proof of a claim",
    )

    sub.add_argument("--studies", type=Path, help="folder of cpm study, whose verdicts are taken as proofs")

    def run(options: argparse.Namespace) -> None:
        refuse_missing("a folder", options.data, options.weights, options.golden, options.studies)
        from cpm_repro.checklist import record_assignment, run_checklist

        for assignment in options.record:
            record_assignment(options.out, assignment)
        given = {name: getattr(options, name) for name in ("golden", "only", "studies")}
        run_checklist(options.out, options.data, options.weights, **given)
        print(f"written to {options.out}")

    sub.set_defaults(run=run)
