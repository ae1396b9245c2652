"""Verbs that bring networks into other forms: convert, proto, export."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cpm_repro.cli.parser import (
    add_network,
    add_numbers,
    add_verb,
    refuse_unknown_architecture,
)
from cpm_repro.paths import wanted_suffix
from cpm_repro.weight_paths import EXPORTED, KINDS, weight_file_of


def add_convert(verbs: Any) -> None:
    """``cpm convert``."""
    sub = add_verb(
        verbs,
        "convert",
        "convert weights between .caffemodel, .safetensors and checkpoints (.pt)",
        "cpm convert pose_iter_320000.caffemodel vgg.safetensors --arch mpii_vgg_6stage --check",
    )
    sub.add_argument("source", type=Path, help="weight file or run folder")
    sub.add_argument("target", type=Path, help="*.caffemodel, *.safetensors or *.pt")
    add_network(sub)
    sub.add_argument("--check", action="store_true", help="run both files and print each layer's difference")

    def run(options: argparse.Namespace) -> None:
        refuse_unknown_architecture(options.arch)
        weight_file_of(options.source)
        wanted_suffix(options.target, KINDS)
        from cpm_repro.caffe.convert import convert

        numbers = {name: getattr(options, name) for name in ("arch", "stages", "parts", "width")}
        print(convert(options.source, options.target, check=options.check, **numbers))

    sub.set_defaults(run=run)


def add_proto(verbs: Any) -> None:
    """``cpm proto``."""
    sub = add_verb(
        verbs,
        "proto",
        "write a network's deploy, training and solver prototxt",
        "cpm proto lsp_6stage --out protos/lsp_6stage\n"
        "  cpm proto mpii_vgg_6stage --parts 21 --stages 3 --width 0.5 --out protos/hand",
    )
    sub.add_argument("arch", help="for instance mpii_6stage")
    sub.add_argument("--out", type=Path, required=True, help="folder for the three files")
    add_numbers(sub)

    def run(options: argparse.Namespace) -> None:
        refuse_unknown_architecture(options.arch)
        from cpm_repro.caffe.generate import generate

        files = generate(options.arch, options.stages, options.parts, options.width)
        for path in files.write(options.out):
            print(path)

    sub.set_defaults(run=run)


def add_export(verbs: Any) -> None:
    """``cpm export``."""
    sub = add_verb(
        verbs,
        "export",
        "write weights as ONNX (.onnx) or torch.export (.pt2) and print the parity measured",
        "cpm export runs/lspet pose.onnx --peaks",
    )
    sub.add_argument("weights", type=Path, help="run folder or weight file")
    sub.add_argument("target", type=Path, help="*.onnx or *.pt2")
    sub.add_argument("--arch", help="architecture, where the file does not say")
    sub.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="input size in pixels")
    add_numbers(sub, stages="run only so many stages")
    sub.add_argument("--peaks", action="store_true", help="x, y and score out instead of belief maps")

    def run(options: argparse.Namespace) -> None:
        refuse_unknown_architecture(options.arch)
        weight_file_of(options.weights)
        wanted_suffix(options.target, EXPORTED)
        from cpm_repro.inference.export import export_weights

        size = tuple(options.size) if options.size else None
        print(
            export_weights(
                options.weights,
                options.target,
                options.arch,
                size,
                options.stages,
                parts=options.parts,
                width=options.width,
                peaks=options.peaks,
            )
        )

    sub.set_defaults(run=run)
