"""The verb data and its actions: check, show, json, lmdb."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from cpm_repro.cli.parser import Parser, add_verb, at_least, refuse_missing, refuse_missing_data
from cpm_repro.config import assignment, check, cut_off, override, preset
from cpm_repro.paths import PICTURES, wanted_suffix

_STRICT = "stop at the first unusable person or image instead of reporting it"


def add_data(verbs: Any) -> None:
    """``cpm data``."""
    sub = add_verb(
        verbs,
        "data",
        "look at a data set before training on it, or write it as the release's JSON or LMDB",
        "cpm data check path/to/lspet && cpm data show path/to/lspet --out samples.png\n"
        "  cpm data json path/to/mpii --out records\n"
        "  cpm data lmdb records/MPI_annotations.json --images path/to/mpii/images --out lmdb",
    )
    actions = sub.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=Parser)
    for add in (_add_data_check, _add_data_show, _add_data_json, _add_data_lmdb):
        add(actions)


def _add_data_check(actions: Any) -> None:
    sub = add_verb(actions, "check", "find what usually goes wrong, item by item", "cpm data check lspet")
    sub.add_argument("path", help="a folder or an annotation file")
    sub.add_argument("--strict", action="store_true", help=_STRICT)

    def run(options: argparse.Namespace) -> None:
        refuse_missing("a folder or an annotation file", options.path)
        from cpm_repro.data import check_data

        print(check_data(options.path, strict=options.strict, progress=sys.stderr.isatty()).to_text())

    sub.set_defaults(run=run, parser=sub)


def _add_data_show(actions: Any) -> None:
    sub = add_verb(
        actions,
        "show",
        "draw samples as a preset's training sees them: parts, crop, centre and belief maps",
        "cpm data show path/to/lspet --out samples.png\n"
        "  cpm data show path/to/lspet --preset lsp_6stage --set augment.rotate=20",
    )
    sub.add_argument("path", help="'synthetic', a folder or an annotation file")
    sub.add_argument(
        "--out",
        type=Path,
        default=Path("samples.png"),
        help="the picture, *.png or *.jpg (default: %(default)s)",
    )
    sub.add_argument("--count", type=at_least(1), default=12, help="how many samples")
    sub.add_argument("--seed", type=at_least(0), default=0)
    sub.add_argument("--preset", default="tiny", help="whose augmentation and belief maps (default: tiny)")
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting, as in cpm train, for instance augment.crop=240",
    )

    def run(options: argparse.Namespace) -> None:
        refuse_missing_data(options.path)
        wanted_suffix(options.out, PICTURES)
        config = override(preset(options.preset), dict(assignment(text) for text in options.set))
        check(config)
        from cpm_repro.data import open_dataset, show_samples

        dataset = open_dataset(options.path, "train", seed=options.seed)
        if (cut := cut_off(config.augment)) is not None:
            print(f"warning: {cut}")
        from cpm_repro.viz import legend

        show_samples(dataset, options.out, config.augment, options.count, options.seed, config.target, legend)
        print(options.out)

    sub.set_defaults(run=run, parser=sub)


def _add_data_json(actions: Any) -> None:
    sub = add_verb(
        actions,
        "json",
        "write the release's training record file: MPI_, LEEDS_ or FLIC_annotations.json",
        "cpm data json path/to/mpii --out records",
    )
    sub.add_argument(
        "path",
        help="folder of MPII, FLIC or LSP, or one that holds lspet_dataset/ and lsp_dataset/",
    )
    sub.add_argument("--out", type=Path, required=True, help="folder for the file")
    sub.add_argument("--strict", action="store_true", help=_STRICT)

    def run(options: argparse.Namespace) -> None:
        refuse_missing("a folder of a data set", options.path)
        from cpm_repro.data.commands import json_command

        print(json_command(options.path, options.out, strict=options.strict, progress=sys.stderr.isatty()))

    sub.set_defaults(run=run, parser=sub)


def _add_data_lmdb(actions: Any) -> None:
    sub = add_verb(
        actions,
        "lmdb",
        "write an LMDB of record files or data sets: the release's layout, or a compact one",
        "cpm data lmdb records/MPI_annotations.json --images path/to/mpii/images --out lmdb",
    )
    sub.add_argument("paths", nargs="+", metavar="PATH", help="record files or folders of data sets")
    sub.add_argument("--images", nargs="+", default=[], help="image folder of the record files")
    sub.add_argument("--out", type=Path, required=True, help="folder of the LMDB; a killed run goes on in it")
    sub.add_argument(
        "--compact", action="store_true", help="each image's file once: a fraction of the size, ours only"
    )
    sub.add_argument("--seed", type=at_least(0), default=0, help="of the order")
    sub.add_argument("--strict", action="store_true", help=_STRICT)

    def run(options: argparse.Namespace) -> None:
        refuse_missing("a record file or a folder of a data set", *options.paths)
        refuse_missing("a folder of images", *options.images)
        from cpm_repro.data.commands import lmdb_command

        print(
            lmdb_command(
                options.paths,
                options.out,
                options.images,
                compact=options.compact,
                seed=options.seed,
                strict=options.strict,
                progress=sys.stderr.isatty(),
            )
        )

    sub.set_defaults(run=run, parser=sub)
