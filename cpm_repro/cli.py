"""The ``cpm`` command: argument parsing only; each verb calls one function of one room."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from cpm_repro.config import unknown
from cpm_repro.errors import EnvironmentFailure, UserError


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line and name the nearest known thing."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")

    def refuse_unknown(self, arguments: Sequence[str]) -> None:
        """Report the first argument nobody asked for."""
        flag = next((item for item in arguments if item.startswith("-")), None)
        if flag is None:
            self.error(f"unexpected argument {arguments[0]!r}")
        options = [name for name in self._option_string_actions if name.startswith("--")]
        self.error(unknown("option", flag.split("=")[0], options))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code is 0, 2 for the user's mistake, 1 for a failure of the machine."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser, verbs = _parser()
    if arguments and not arguments[0].startswith("-") and arguments[0] not in verbs:
        parser.error(unknown("verb", arguments[0], list(verbs)))
    options, rest = parser.parse_known_args(arguments)
    if rest:
        getattr(options, "parser", verbs[options.verb]).refuse_unknown(rest)
    try:
        with _warnings_in_a_line(options.verb):
            options.run(options)
        sys.stdout.flush()
    except UserError as error:
        print(f"cpm {options.verb}: error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `cpm ... | head` has read enough; nothing is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as the shell calls the end by SIGPIPE
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # only asking whether such a file exists fails already
            raise
        print(
            f"cpm {options.verb}: error: {str(error.filename)[:60]!r}...: {error.strerror}", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 0


@contextmanager
def _warnings_in_a_line(verb: str) -> Iterator[None]:
    """Our own warnings are for users: without the place in the code that gave them."""
    usual = warnings.formatwarning

    def format_ours(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if category.__module__.startswith("cpm_repro"):
            return f"cpm {verb}: warning: {message}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = format_ours
    try:
        yield
    finally:
        warnings.formatwarning = usual


def _parser() -> tuple[_Parser, dict[str, _Parser]]:
    parser = _Parser(prog="cpm", description="Convolutional Pose Machines, reproduced.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)
    known: dict[str, _Parser] = {}
    for add in (
        _add_demo, _add_train, _add_eval, _add_predict, _add_viz, _add_data, _add_convert, _add_proto,
        _add_export, _add_checklist, _add_study, _add_bench, _add_doctor,
    ):  # fmt: skip
        name, sub = add(verbs)
        known[name] = sub
    return parser, known


def _verb(verbs: Any, name: str, about: str, example: str) -> _Parser:
    sub: _Parser = verbs.add_parser(
        name,
        help=about,
        description=about,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return sub


def _add_demo(verbs: Any) -> tuple[str, _Parser]:
    sub = _verb(
        verbs,
        "demo",
        "train a small pose machine on rendered people, score it, and draw what it sees",
        "cpm demo --out demo_output",
    )
    sub.add_argument("--out", type=Path, default=Path("demo_output"), help="folder for everything it makes")
    sub.add_argument("--minutes", type=float, default=None, help="training time (default: the demo's own)")
    sub.add_argument("--seed", type=int, default=0)

    def run(options: argparse.Namespace) -> None:
        from cpm_repro.demo import demo

        demo(options.out, minutes=options.minutes, seed=options.seed)

    sub.set_defaults(run=run)
    return "demo", sub


def _add_train(verbs: Any) -> tuple[str, _Parser]:
    sub = _verb(
        verbs,
        "train",
        "train a pose machine and leave a run folder",
        "cpm train --preset tiny --data path/to/lspet --minutes 15 --out runs/lspet",
    )
    sub.add_argument("--preset", help="named configuration to start from (default: tiny)")
    sub.add_argument("--explain", metavar="PRESET", help="print a preset and how it differs from the release")
    sub.add_argument(
        "--solver", type=Path, help="train what a Caffe solver prototxt says, and write Caffe snapshots"
    )
    sub.add_argument("--snapshot", type=Path, help="with --solver: go on after this .solverstate")
    sub.add_argument("--arch", help="architecture; takes the preset of the same name when there is one")
    sub.add_argument(
        "--data", help="'synthetic' or a folder in the LSP-extended layout (joints.mat, images/)"
    )
    sub.add_argument("--out", type=Path, help="run folder (default: runs/<preset>)")
    sub.add_argument("--weights", help="start from these weights, by layer name as Caffe fine-tunes")
    sub.add_argument("--vgg19", help="start the VGG networks' trunk from an ILSVRC or torchvision VGG-19")
    sub.add_argument("--iterations", type=int, help="budget in updates: reproducible bit for bit on a CPU")
    sub.add_argument("--minutes", type=float, help="budget in minutes")
    sub.add_argument("--batch", type=int)
    sub.add_argument("--stages", type=int)
    sub.add_argument(
        "--parts", type=int, help="number of parts that the data labels, where the network has another"
    )
    sub.add_argument("--width", type=float, help="width of hidden layers relative to the released network")
    sub.add_argument("--lr", type=float)
    sub.add_argument(
        "--scheme",
        help="end-to-end, stage-wise, stage-wise-then-end-to-end or last-stage-loss: the paper's (i) to (iv)",
    )
    sub.add_argument("--seed", type=int)
    sub.add_argument("--workers", type=int, help="threads that prepare batches")
    _add_device(sub)
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
        from cpm_repro.training import train_from_options

        train_from_options(vars(options))

    sub.set_defaults(run=run)
    return "train", sub


def _add_eval(verbs: Any) -> tuple[str, _Parser]:
    sub = _verb(
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
    sub.add_argument("--threshold", type=float, help="with --predictions: share of the normaliser")
    sub.add_argument(
        "--compare", type=Path, help="with --predictions: a second file, compared person by person"
    )
    sub.add_argument("--images", type=Path, help="with --predictions: photographs, to draw the worst people")
    sub.add_argument("--keep-sides", action="store_true", help="flic-pck without turning the truth's sides")
    sub.add_argument("--out", type=Path, help="folder for the tables and curves")
    _add_device(sub)

    def run(options: argparse.Namespace) -> None:
        release = options.weights is not None and options.procedure == "release"
        if not release and (options.split != "val" or options.first is not None):
            raise UserError("--split and --first go with --weights and --procedure release")
        if release:
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
    return "eval", sub


def _add_predict(verbs: Any) -> tuple[str, _Parser]:
    sub = _verb(
        verbs,
        "predict",
        "estimate poses in images, folders, videos or from a camera: key points as files, and pictures",
        "cpm predict photo.jpg\n"
        "  cpm predict --weights runs/lspet --out predictions photos/ 'more/*.png'\n"
        "  cpm predict clip.mp4 --smooth --format json csv\n"
        "  ls photos/*.jpg | cpm predict -",
    )
    sub.add_argument(
        "things",
        nargs="+",
        metavar="THING",
        help="image, folder, 'pattern*', video, camera number, or - for a list on standard input",
    )
    sub.add_argument(
        "--weights", type=Path, help="run folder or weight file (default: the small bundled network)"
    )
    sub.add_argument("--arch", help="architecture, where the weights do not say")
    sub.add_argument("--out", type=Path, default=Path("predictions"), help="folder for the results")
    sub.add_argument(
        "--box",
        type=float,
        nargs=4,
        action="append",
        metavar=("X0", "Y0", "X1", "Y1"),
        help="a person's box in pixels, once per person (default: one person, looked for at a few places)",
    )
    sub.add_argument(
        "--center",
        type=float,
        nargs=2,
        action="append",
        metavar=("X", "Y"),
        help="a person's centre in pixels, instead of a box",
    )
    sub.add_argument("--height", type=float, help="with --center: the people's height in pixels")
    sub.add_argument("--detector", type=Path, help="weights of a person network, to find the people with")
    sub.add_argument(
        "--format", nargs="+", default=["json"], help="json, coco, openpose, csv: any of them (default: json)"
    )
    sub.add_argument("--maps", action="store_true", help="also the belief maps of every stage, as .npz")
    sub.add_argument("--no-pictures", action="store_true", help="no overlays")
    sub.add_argument(
        "--grid",
        action=argparse.BooleanOptionalAction,
        help="pictures of every stage and part (default: of up to 20 images, and of no video)",
    )
    sub.add_argument("--smooth", action="store_true", help="video: steadier joints, by the one-euro filter")
    sub.add_argument(
        "--smooth-cutoff", type=float, default=1.0, metavar="HZ", help="lower is steadier and slower (1)"
    )
    sub.add_argument("--frames", type=int, metavar="N", help="video, camera: stop after N frames")
    sub.add_argument("--stages", type=int, help="run only so many stages")
    sub.add_argument(
        "--scales", type=float, nargs="+", default=[1.0], help="average over these relative sizes (1)"
    )
    sub.add_argument("--flip-test", action="store_true", help="average with the mirror image")
    sub.add_argument("--sub-pixel", action="store_true", help="peaks between pixels")
    sub.add_argument("--precision", default="float32", help="float32 or bf16")
    _add_device(sub)
    sub.add_argument("--batch", type=int, default=8, help="most crops in one pass (8)")

    def run(options: argparse.Namespace) -> None:
        from cpm_repro.inference.predict import PredictOptions, predict

        names = ["arch", "device", "stages", "scales", "precision", "flip_test", "sub_pixel", "batch"]
        names += ["detector"]
        predict(
            PredictOptions(
                things=options.things,
                out=options.out,
                weights=options.weights,
                boxes=options.box,
                centers=options.center,
                height=options.height,
                formats=options.format,
                pictures=not options.no_pictures,
                grids=options.grid,
                maps=options.maps,
                smooth=options.smooth,
                smooth_cutoff=options.smooth_cutoff,
                frames=options.frames,
                estimator={name: getattr(options, name) for name in names},
            )
        )

    sub.set_defaults(run=run)
    return "predict", sub


def _add_viz(verbs: Any) -> tuple[str, _Parser]:
    sub = _verb(
        verbs,
        "viz",
        "draw what other commands left: a run's curves, key points, belief maps, a page of results",
        "cpm viz runs/lspet\n"
        "  cpm viz predictions\n"
        "  cpm viz predictions/predictions/photo.json predictions/predictions/photo_maps.npz --out pictures",
    )
    sub.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="run folder, folder that cpm predict wrote, JSON of key points, or .npz of belief maps",
    )
    sub.add_argument("--out", type=Path, default=Path("viz"), help="folder for the pictures")
    sub.add_argument("--images", type=Path, help="folder of the photographs, where they were moved")

    def run(options: argparse.Namespace) -> None:
        from cpm_repro.viz.command import visualize

        visualize(options.paths, options.out, options.images)

    sub.set_defaults(run=run)
    return "viz", sub


def _add_data(verbs: Any) -> tuple[str, _Parser]:
    sub = _verb(
        verbs,
        "data",
        "look at a data set before training on it, or write it as the release's JSON or LMDB",
        "cpm data check path/to/lspet && cpm data show path/to/lspet --out samples.png\n"
        "  cpm data json path/to/mpii --out records\n"
        "  cpm data lmdb records/MPI_annotations.json --images path/to/mpii/images --out lmdb",
    )
    actions = sub.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=_Parser)
    for add in (_add_data_check, _add_data_show, _add_data_json, _add_data_lmdb):
        add(actions)
    return "data", sub


_STRICT = "stop at the first unusable person or image instead of reporting it"


def _add_data_check(actions: Any) -> None:
    sub = _verb(actions, "check", "find what usually goes wrong, item by item", "cpm data check lspet")
    sub.add_argument("path", help="a folder or an annotation file")
    sub.add_argument("--strict", action="store_true", help=_STRICT)

    def run(options: argparse.Namespace) -> None:
        from cpm_repro.data import check_data

        print(check_data(options.path, strict=options.strict, progress=sys.stderr.isatty()).to_text())

    sub.set_defaults(run=run, parser=sub)


def _add_data_show(actions: Any) -> None:
    sub = _verb(
        actions,
        "show",
        "draw samples after augmentation: parts, crop, centre and belief maps",
        "cpm data show path/to/lspet --out samples.png",
    )
    sub.add_argument("path", help="'synthetic', a folder or an annotation file")
    sub.add_argument("--out", type=Path, default=Path("samples.png"), help="the picture")
    sub.add_argument("--count", type=int, default=12, help="how many samples")
    sub.add_argument("--seed", type=int, default=0)

    def run(options: argparse.Namespace) -> None:
        from cpm_repro.data import open_dataset, show_samples

        dataset = open_dataset(options.path, "train", seed=options.seed)
        show_samples(dataset, options.out, count=options.count, seed=options.seed)
        print(options.out)

    sub.set_defaults(run=run, parser=sub)


def _add_data_json(actions: Any) -> None:
    sub = _verb(
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
        from cpm_repro.data.commands import json_command

        print(json_command(options.path, options.out, strict=options.strict, progress=sys.stderr.isatty()))

    sub.set_defaults(run=run, parser=sub)


def _add_data_lmdb(actions: Any) -> None:
    sub = _verb(
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
    sub.add_argument("--seed", type=int, default=0, help="of the order")
    sub.add_argument("--strict", action="store_true", help=_STRICT)

    def run(options: argparse.Namespace) -> None:
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


def _add_convert(verbs: Any) -> tuple[str, _Parser]:
    sub = _verb(
        verbs,
        "convert",
        "convert weights between .caffemodel, .safetensors and checkpoints (.pt)",
        "cpm convert pose_iter_320000.caffemodel vgg.safetensors --arch mpii_vgg_6stage --check",
    )
    sub.add_argument("source", type=Path)
    sub.add_argument("target", type=Path)
    _add_network(sub)
    sub.add_argument("--check", action="store_true", help="run both files and print each layer's difference")

    def run(options: argparse.Namespace) -> None:
        from cpm_repro.caffe.convert import convert

        numbers = {name: getattr(options, name) for name in ("arch", "stages", "parts", "width")}
        print(convert(options.source, options.target, check=options.check, **numbers))

    sub.set_defaults(run=run)
    return "convert", sub


def _add_proto(verbs: Any) -> tuple[str, _Parser]:
    sub = _verb(
        verbs,
        "proto",
        "write a network's deploy, training and solver prototxt",
        "cpm proto lsp_6stage --out protos/lsp_6stage\n"
        "  cpm proto mpii_vgg_6stage --parts 21 --stages 3 --width 0.5 --out protos/hand",
    )
    sub.add_argument("arch", help="for instance mpii_6stage")
    sub.add_argument("--out", type=Path, required=True, help="folder for the three files")
    _add_numbers(sub)

    def run(options: argparse.Namespace) -> None:
        from cpm_repro.caffe.generate import generate

        files = generate(options.arch, options.stages, options.parts, options.width)
        for path in files.write(options.out):
            print(path)

    sub.set_defaults(run=run)
    return "proto", sub


def _add_export(verbs: Any) -> tuple[str, _Parser]:
    sub = _verb(
        verbs,
        "export",
        "write weights as ONNX (.onnx) or torch.export (.pt2) and print the parity measured",
        "cpm export runs/lspet pose.onnx --peaks",
    )
    sub.add_argument("weights", type=Path, help="run folder or weight file")
    sub.add_argument("target", type=Path, help="*.onnx or *.pt2")
    sub.add_argument("--arch", help="architecture, where the file does not say")
    sub.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="input size in pixels")
    _add_numbers(sub, stages="run only so many stages")
    sub.add_argument("--peaks", action="store_true", help="x, y and score out instead of belief maps")

    def run(options: argparse.Namespace) -> None:
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
    return "export", sub


def _add_device(sub: _Parser) -> None:
    """Where the network runs."""
    sub.add_argument("--device", help="for instance cpu or cuda:1 (default: a GPU if there is one)")


def _add_network(sub: _Parser) -> None:
    """The options that name a network where a file does not."""
    sub.add_argument("--arch", help="architecture, where the file does not say")
    _add_numbers(sub)


def _add_numbers(sub: _Parser, stages: str = "number of stages (default: the architecture's own)") -> None:
    """The numbers in which a network may differ from the released one."""
    sub.add_argument("--stages", type=int, help=stages)
    sub.add_argument("--parts", type=int, help="number of body parts, without the background")
    sub.add_argument("--width", type=float, help="hidden channels relative to the released network")


def _add_checklist(verbs: Any) -> tuple[str, _Parser]:
    sub = _verb(
        verbs,
        "checklist",
        "check the paper's and the release's claims that can be checked here",
        "cpm checklist --out checklist --data path/to/data",
    )
    sub.add_argument("--out", type=Path, default=Path("checklist"), help="folder of the checklist")
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
        from cpm_repro.checklist import record_assignment, run_checklist

        for assignment in options.record:
            record_assignment(options.out, assignment)
        given = {name: getattr(options, name) for name in ("golden", "only", "studies")}
        run_checklist(options.out, options.data, options.weights, **given)
        print(f"written to {options.out}")

    sub.set_defaults(run=run)
    return "checklist", sub


def _add_study(verbs: Any) -> tuple[str, _Parser]:
    sub = _verb(
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
        help="stages, supervision, receptive-field, schemes, precision, sensitivity, or all",
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
    _add_device(sub)
    sub.add_argument("--quick", action="store_true", help="a smaller network and budget, to see everything")
    sub.add_argument(
        "--out", type=Path, default=Path("studies"), help="folder; the same command goes on there"
    )

    def run(options: argparse.Namespace) -> None:
        from cpm_repro.studies import Request, run_studies

        given = {name: value for name, value in vars(options).items() if name not in ("verb", "run")}
        run_studies(Request(**given, command=_study_command(given)))

    sub.set_defaults(run=run)
    return "study", sub


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


def _add_bench(verbs: Any) -> tuple[str, _Parser]:
    sub = _verb(
        verbs,
        "bench",
        "run the benchmarks, each checked before it is timed; compare reports; make the documents' tables",
        "cpm bench --quick --out bench\n  cpm bench belief_maps fuse_multiscale\n"
        "  cpm bench compare old/report.json new/report.json\n  cpm bench readme",
    )
    sub.add_argument(
        "names", nargs="*", metavar="NAME", help="benchmarks to run (default: all); or: compare A B; readme"
    )
    sub.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    sub.add_argument("--out", type=Path, default=Path("bench"), help="folder of the report")

    def run(options: argparse.Namespace) -> None:
        from cpm_repro import bench

        if options.names[:1] == ["compare"]:
            if len(options.names) != 3:
                raise UserError("compare wants two reports: cpm bench compare A.json B.json")
            print(bench.compare_reports(*map(Path, options.names[1:])))
            return
        if options.names == ["readme"]:
            changed = bench.update_documents(Path(__file__).parents[1])
            print(f"new tables: {', '.join(changed) or 'none, they were up to date'}")
            return
        report = bench.run_benchmarks(options.out, options.names, quick=options.quick)
        failed = [answer.script for answer in report.answers if answer.failure]
        print(f"written to {options.out}: report.md, report.html, report.json")
        if failed:
            raise EnvironmentFailure(f"failed, see the report: {', '.join(failed)}")

    sub.set_defaults(run=run)
    return "bench", sub


def _add_doctor(verbs: Any) -> tuple[str, _Parser]:
    sub = _verb(
        verbs, "doctor", "say what this machine has and what to do about what is missing", "cpm doctor"
    )

    def run(options: argparse.Namespace) -> None:  # noqa: ARG001
        from cpm_repro.doctor import doctor

        doctor()

    sub.set_defaults(run=run)
    return "doctor", sub
