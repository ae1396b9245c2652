"""``cpm predict``: poses of images, folders, videos and cameras, written as files and pictures."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from cpm_repro.config import unknown
from cpm_repro.errors import EnvironmentFailure, UserError, one_line
from cpm_repro.inference.outputs import FORMATS, Outputs, Wanted
from cpm_repro.inference.pipeline import WriteBehind, read_ahead
from cpm_repro.inference.places import Box, Point, check_told
from cpm_repro.inference.result import People
from cpm_repro.inference.settings import check_settings
from cpm_repro.inference.smoothing import CUTOFF, PoseSmoother
from cpm_repro.inference.sources import Source, find_sources
from cpm_repro.inference.video import VideoReader, quiet_opencv
from cpm_repro.memory import fitting
from cpm_repro.paths import what_is_at
from cpm_repro.weight_paths import weight_file_of

if TYPE_CHECKING:
    from cpm_repro.inference.estimator import PoseEstimator
    from cpm_repro.inference.seen import Seen

MANY = 20
"""Of more images than this, belief-map pictures are drawn only when asked for."""


@dataclass(frozen=True)
class PredictOptions:
    """What ``cpm predict`` was asked for; see its help and :class:`PoseEstimator`."""

    things: Sequence[str | Path]
    out: str | Path = Path("predictions")
    weights: str | Path | None = None
    boxes: Sequence[Box] | None = None
    centers: Sequence[Point] | None = None
    height: float | None = None
    whole_image: bool = False
    formats: Sequence[str] = ("json",)
    pictures: bool = True
    grids: bool | None = None  # None: with pictures, of up to MANY images, and of no video
    maps: bool = False
    smooth: bool = False
    smooth_cutoff: float = CUTOFF
    frames: int | None = None
    estimator: dict[str, Any] = field(default_factory=dict)


def predict(options: PredictOptions) -> int:
    """Estimate poses in everything that was named; returns how many images and videos were done.

    What cannot be used is reported and the rest goes on. Without weights the bundled network runs, and says
    so. An interrupt ends a camera's recording; of a video it keeps the frames so far.

    Raises:
        UserError: unusable weights or options; or, after the rest is done, something that could not be used.
        EnvironmentFailure: results cannot be written.
    """
    _check(options)
    sources = find_sources(options.things)
    alone = len(sources.found) + len(sources.problems) == 1
    told = "--box" if options.boxes else "--center" if options.centers else ""
    report = _Report(alone=alone, better=_better(options), told=told)
    for problem in sources.problems:
        report.problem(problem)
    if not sources.found:
        report.finish()
    # Importing torch takes seconds, for which a refusal of all that was named need not wait.
    from cpm_repro.inference.estimator import PoseEstimator
    from cpm_repro.inference.weights import BUNDLED

    estimator = PoseEstimator(options.weights, **options.estimator)
    if options.weights is None:
        print(
            f"no --weights: this is {BUNDLED.stem}, a small network that ships with the package to try it out"
        )
    if estimator.assumed:
        print(estimator.assumed)
    images = [source for source in sources.found if not source.is_video]
    grids = options.pictures and len(images) <= MANY if options.grids is None else options.grids
    wanted = Wanted(Path(options.out), tuple(options.formats), options.pictures, grids, options.maps)
    crop = estimator.augment.crop
    memory = fitting(
        f"a batch of {estimator.batch} crops of {crop}x{crop} px",
        "lower --batch, or give fewer --scales or another --device",
    )
    with Outputs(wanted, estimator.skeleton) as outputs, quiet_opencv(), memory:
        try:
            _predict_images(images, estimator, outputs, options, report)
            outputs.wanted = wanted.of_video(options.grids)
            for source in sources.found:
                if source.is_video:
                    _predict_video(source, estimator, outputs, options, report)
        except KeyboardInterrupt:
            report.interrupted = True
    report.summary(outputs)
    report.finish()
    return report.done


def _predict_images(
    images: Sequence[Source],
    estimator: PoseEstimator,
    outputs: Outputs,
    options: PredictOptions,
    report: _Report,
) -> None:
    """Images are decoded ahead of the network and written behind it, in threads."""
    from cpm_repro.inference.estimator import IMAGES_AT_ONCE
    from cpm_repro.inference.seen import Seen

    def look() -> Iterator[tuple[Source, Seen | UserError]]:
        places = (options.boxes, options.centers, options.height)
        for source in images:
            try:
                yield source, estimator.look(source.what, *places, whole_image=options.whole_image)  # type: ignore[arg-type]
            except UserError as error:
                yield source, error

    def write(item: tuple[Source, People]) -> None:
        outputs.image(item[1], item[0].name)

    keep = outputs.wanted.grids or outputs.wanted.maps
    together = min(estimator.batch, IMAGES_AT_ONCE)
    with (
        closing(read_ahead(look(), depth=2)) as seen,
        WriteBehind(write, depth=2) as writer,
        _bar(len(images), "images") as bar,
    ):
        while group := list(itertools.islice(seen, together)):
            good = [(source, look) for source, look in group if isinstance(look, Seen)]
            for source, failure in group:
                if isinstance(failure, UserError):
                    report.problem(_naming(str(source), failure))
            found = estimator.estimate([look for _, look in good], keep_maps=keep)
            for (source, _), people in zip(good, found, strict=True):
                writer.put((source, people))
                report.count(people)
            bar.update(len(group))


def _predict_video(
    source: Source, estimator: PoseEstimator, outputs: Outputs, options: PredictOptions, report: _Report
) -> None:
    """One video or camera: decoded, estimated and written at the same time."""
    smoother = PoseSmoother(options.smooth_cutoff) if options.smooth else False
    try:
        with VideoReader(source.what, options.frames) as reader:
            keep = outputs.wanted.grids or outputs.wanted.maps
            frames = estimator.video(
                reader, boxes=options.boxes, centers=options.centers, heights=options.height,
                whole_image=options.whole_image, smooth=smoother, keep_maps=keep,
            )  # fmt: skip
            total = min(reader.announced, options.frames or reader.announced) or options.frames
            begin = monotonic()
            with outputs.video(reader, source.name) as take:
                read, stopped = _write_frames(frames, take, _bar(total, "frames", always=True), report)
                if not read and not stopped:
                    raise UserError(reader.problem or f"{source}: no frame can be read")
            count = f"{read} frame{'s' * (read != 1)}"
            report.videos.append(one_line(f"{source}: {count}, {read / (monotonic() - begin):.1f} a second"))
            if reader.problem:
                report.problem(reader.problem)
            report.done += 1
    except EnvironmentFailure:
        raise
    except UserError as error:
        report.problem(_naming(str(source), error))
        return
    if stopped and not reader.live:
        raise KeyboardInterrupt


def _write_frames(
    frames: Generator[People, None, None], take: Any, bar: Any, report: _Report
) -> tuple[int, bool]:
    """Pass frames on; returns how many, and whether the user stopped it. What was passed on is written."""
    read = 0
    with closing(frames), WriteBehind(take, depth=2) as writer, bar:
        try:
            for people in frames:
                report.note(people)
                writer.put(people)
                read += 1
                bar.update()
        except KeyboardInterrupt:
            return read, True
    return read, False


class _Report:
    """What went well and what did not."""

    def __init__(self, *, alone: bool, better: str, told: str) -> None:
        self.alone = alone
        self.better = better
        self.told = told  # the option that places people, where one was given
        self.done = 0
        self.images = 0
        self.videos: list[str] = []
        self.interrupted = False
        self._problems: list[str] = []
        self._assumed: list[str] = []  # at most two that differ

    def problem(self, line: str) -> None:
        """Say at once what cannot be used; of a single thing, the command's last line says it."""
        self._problems.append(line)
        if not self.alone:
            tqdm.write(f"cpm predict: {line}", file=sys.stderr)

    def count(self, people: People) -> None:
        """One image done."""
        self.done += 1
        self.images += 1
        self.note(people)

    def note(self, people: People) -> None:
        """Remember what was assumed."""
        assumed = people[0].assumed if people else ""
        if assumed and assumed not in self._assumed and len(self._assumed) < 2:
            self._assumed.append(assumed)

    def summary(self, outputs: Outputs) -> None:
        """Say what was made and where it is."""
        for line in self.videos:
            print(line)
        if self._assumed:
            several = "one person each, not at the same place or size everywhere: every result says where"
            what = self._assumed[0] if len(self._assumed) == 1 else several
            print(f"assumed: {what}{self.better}")
        if self.told and self.done > 1:
            print(f"the same {self.told} was taken in all of them")
        if self.done:
            folders = [outputs.predictions] if outputs.wanted.formats or outputs.wanted.maps else []
            folders += [outputs.visualizations] if outputs.wanted.pictures or outputs.wanted.grids else []
            counts = {"image": self.images, "video": len(self.videos)}
            said = [f"{count} {kind}{'s' * (count != 1)}" for kind, count in counts.items() if count]
            page = f" (cpm viz {outputs.wanted.out} shows them)" if "json" in outputs.wanted.formats else ""
            print(f"{', '.join(said)} done: {' and '.join(map(str, folders))}{page}")

    def finish(self) -> None:
        """UserError if there was a problem, KeyboardInterrupt if the user stopped."""
        if self.interrupted:
            raise KeyboardInterrupt
        if self._problems:
            listed = f"{len(self._problems)} could not be used or not wholly, see above; the rest is done"
            raise UserError(self._problems[0] if self.alone else listed)


def _check(options: PredictOptions) -> None:
    for name in options.formats:
        if name not in FORMATS:
            raise UserError(unknown("format", name, list(FORMATS)))
    if options.frames is not None and options.frames < 1:
        raise UserError(f"frames: wanted at least 1, got {options.frames}")
    if not options.smooth_cutoff > 0:
        raise UserError(f"smooth-cutoff: wanted a positive number of Hz, got {options.smooth_cutoff:g}")
    if options.smooth_cutoff != CUTOFF and not options.smooth:
        raise UserError("--smooth-cutoff goes with --smooth")
    if options.boxes and options.centers:
        raise UserError("give either --box or --center")
    if options.whole_image and (options.boxes or options.centers or options.estimator.get("detector")):
        raise UserError(
            "--whole-image takes one person to fill the image: leave out --box, --center, --detector"
        )
    if (options.boxes or options.centers) and options.estimator.get("detector"):
        raise UserError("--detector finds the people: leave out --box, --center")
    if options.height is not None and not options.centers:
        raise UserError("--height goes with --center X Y")
    check_told(options.boxes or (), options.centers or (), options.height)
    given = options.estimator
    check_settings(given.get("scales", (1.0,)), given.get("precision", "float32"), given.get("batch", 1))
    for weights in (options.weights, given.get("detector")):
        if weights is not None:
            weight_file_of(weights)
    if what_is_at(options.out) not in ("", "a folder"):
        raise UserError(f"{options.out}: wanted a folder for the results, got {what_is_at(options.out)}")


def _better(options: PredictOptions) -> str:
    """The option that would leave less to be assumed; nothing to somebody who chose what is assumed."""
    if options.whole_image:
        return ""
    return f" (give {'--height' if options.centers else '--box X0 Y0 X1 Y1'} to say better)"


def _naming(what: str, error: UserError) -> str:
    """The error's line, with the name of what it is about."""
    return str(error) if what in str(error) else f"{what}: {error}"


def _bar(total: int | None, unit: str, *, always: bool = False) -> Any:
    quiet = not sys.stderr.isatty() or (not always and (total or 0) < MANY)
    return tqdm(total=total, unit=f" {unit}", disable=quiet)
