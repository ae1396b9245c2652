"""Verbs that look at pictures: predict, viz."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cpm_repro.cli.parser import add_device, add_verb, refuse_missing, refuse_unknown_architecture


def add_predict(verbs: Any) -> None:
    """``cpm predict``."""
    sub = add_verb(
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
    sub.add_argument(
        "--out", type=Path, default=Path("predictions"), help="folder for the results (default: %(default)s)"
    )
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
    sub.add_argument(
        "--whole-image",
        action="store_true",
        help="one person who fills the image (80 %% of its longer side), instead of looking at a few places",
    )
    sub.add_argument("--detector", type=Path, help="weights of a person network, to find the people with")
    sub.add_argument(
        "--format", nargs="+", default=["json"], help="json, coco, openpose, csv: any of them (default: json)"
    )
    sub.add_argument("--maps", action="store_true", help="also the belief maps of every stage, as .npz")
    sub.add_argument("--no-pictures", action="store_true", help="no overlays, and no grids without --grid")
    sub.add_argument(
        "--grid",
        action=argparse.BooleanOptionalAction,
        help="pictures of every stage and part (default: of up to 20 images, and of no video)",
    )
    sub.add_argument("--smooth", action="store_true", help="video: steadier joints, by the one-euro filter")
    sub.add_argument(
        "--smooth-cutoff",
        type=float,
        default=1.0,
        metavar="HZ",
        help="with --smooth: lower is steadier and slower (1)",
    )
    sub.add_argument("--frames", type=int, metavar="N", help="video, camera: stop after N frames")
    sub.add_argument("--stages", type=int, help="run only so many stages")
    sub.add_argument(
        "--scales", type=float, nargs="+", default=[1.0], help="average over these relative sizes (1)"
    )
    sub.add_argument("--flip-test", action="store_true", help="average with the mirror image")
    sub.add_argument("--sub-pixel", action="store_true", help="peaks between pixels")
    sub.add_argument("--precision", default="float32", help="float32 or bf16")
    add_device(sub)
    sub.add_argument("--batch", type=int, default=8, help="most crops in one pass (8)")
    sub.add_argument("--compile", action="store_true", help="GPU: torch.compile and CUDA graphs")

    def run(options: argparse.Namespace) -> None:
        refuse_missing("weights of a person network", options.detector)
        refuse_unknown_architecture(options.arch)
        from cpm_repro.inference.predict import PredictOptions, predict

        names = ["arch", "device", "stages", "scales", "precision", "flip_test", "sub_pixel", "batch"]
        names += ["compile", "detector"]
        predict(
            PredictOptions(
                things=options.things,
                out=options.out,
                weights=options.weights,
                boxes=options.box,
                centers=options.center,
                height=options.height,
                whole_image=options.whole_image,
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


def add_viz(verbs: Any) -> None:
    """``cpm viz``."""
    sub = add_verb(
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
    sub.add_argument(
        "--out", type=Path, default=Path("viz"), help="folder for the pictures (default: %(default)s)"
    )
    sub.add_argument("--images", type=Path, help="folder of the photographs, where they were moved")

    def run(options: argparse.Namespace) -> None:
        from cpm_repro.viz.command import visualize

        visualize(options.paths, options.out, options.images)

    sub.set_defaults(run=run)
