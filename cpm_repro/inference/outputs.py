"""What ``cpm predict`` leaves on disk: JSON and tables below ``predictions/``, pictures below
``visualizations/``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from cpm_repro.files import atomic_write
from cpm_repro.inference.formats import Take, coco_json, frames_json, save_openpose, table
from cpm_repro.inference.result import People
from cpm_repro.inference.sources import BELIEFS
from cpm_repro.inference.video import VideoReader, video_writer
from cpm_repro.skeleton import Skeleton

FORMATS = ("json", "coco", "openpose", "csv")

LONGEST_STILL = 10.0
"""Seconds that one frame of a file stands in the drawn video at most: clocks jump by a day, and of a screen
on which nothing moves no frame is recorded for hours."""


@dataclass(frozen=True)
class Wanted:
    """What to write below ``out``.

    formats: of the key points. pictures: overlays. grids: stage x joint pictures. maps: belief maps (.npz).
    """

    out: Path
    formats: tuple[str, ...] = ("json",)
    pictures: bool = True
    grids: bool = False
    maps: bool = False

    def of_video(self, grids: bool | None) -> Wanted:
        """The same for a video, whose frames are many: belief-map pictures only if ``grids`` says so."""
        return replace(self, grids=bool(grids))


class Outputs:
    """Takes the people of image after image; a context manager, on leaving which common files are complete.

    Raises:
        EnvironmentFailure: something cannot be written.
    """

    def __init__(self, wanted: Wanted, skeleton: Skeleton) -> None:
        self.wanted = wanted
        self.skeleton = skeleton
        self.predictions = wanted.out / "predictions"
        self.visualizations = wanted.out / "visualizations"
        self._open = ExitStack()
        self._common: list[Take] | None = None

    def __enter__(self) -> Outputs:
        self._open.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def image(self, people: People, name: str) -> None:
        """Write what is wanted of one image; ``name`` is the files' name without suffix."""
        if "json" in self.wanted.formats:
            people.save_json(self.predictions / f"{name}.json")
        if "openpose" in self.wanted.formats:
            save_openpose(people, self.predictions / "openpose" / f"{name}_keypoints.json")
        self._take_common(people)
        if self.wanted.pictures:
            save_overlay(people, self.visualizations / f"{name}.png")
        self._details(people, name)

    @contextmanager
    def video(self, reader: VideoReader, name: str) -> Iterator[Take]:
        """Write what is wanted of one video; yields a function that takes frame after frame."""
        with ExitStack() as files:
            takers: list[Take] = [self._take_common, lambda people: self._frame(people, name)]
            if "json" in self.wanted.formats:
                head = {
                    "video": reader.name,
                    "frames_per_second": reader.rate,
                    "coordinates": "pixels, 0-based, x right, y down",
                    "skeleton": self.skeleton.name,
                    "limbs": [list(limb) for limb in self.skeleton.limbs],
                }
                takers.append(files.enter_context(frames_json(self.predictions / f"{name}.json", head)))
            if self.wanted.pictures:
                takers.append(files.enter_context(self._overlay_video(reader, name)))

            def take(people: People) -> None:
                for taker in takers:
                    taker(people)

            yield take

    def _frame(self, people: People, name: str) -> None:
        """Files of single frames, for the layouts that have these."""
        if "openpose" in self.wanted.formats:
            file = f"{name}_{people.frame:012d}_keypoints.json"
            save_openpose(people, self.predictions / "openpose" / file)
        self._details(people, f"{name}/{people.frame:06d}")

    @contextmanager
    def _overlay_video(self, reader: VideoReader, name: str) -> Iterator[Take]:
        """Draw every frame into a video of the same rate and size.

        Frames that come as they will are repeated to keep the time, a file's for ``LONGEST_STILL`` seconds at
        most; those of a camera that come faster than its rate are left out.
        """
        with video_writer(self.visualizations / f"{name}.mp4", reader.rate) as put:
            written = left_out = 0
            most = math.inf if reader.live else max(1, round(LONGEST_STILL * reader.rate))

            def take(people: People) -> None:
                nonlocal written, left_out
                due = 0 if reader.steady else round((people.time or 0.0) * reader.rate) + 1 - left_out
                if due - written > most:
                    left_out += due - written - int(most)
                    due = written + int(most)
                due = max(due, written if reader.live else written + 1)
                picture = people.draw(longer_side=0)
                for _ in range(due - written):
                    put(picture)
                written = due

            yield take

    def _take_common(self, people: People) -> None:
        """Files that all images of a run share; begun with the first."""
        if self._common is None:
            kinds: dict[str, Any] = {"coco": ("coco.json", coco_json), "csv": ("keypoints.csv", table)}
            wanted = [kinds[kind] for kind in self.wanted.formats if kind in kinds]
            self._common = [self._open.enter_context(make(self.predictions / file)) for file, make in wanted]
        for take in self._common:
            take(people)

    def _details(self, people: People, name: str) -> None:
        if self.wanted.grids:
            save_grids(people, self.visualizations / f"{name}{BELIEFS}.png")
        if self.wanted.maps:
            save_maps(people, self.predictions / f"{name}_maps.npz")


def save_overlay(people: People, path: Path) -> Path:
    """The image with everybody's pose as PNG."""
    from cpm_repro.viz import save_png  # drawing is needed by few callers

    save_png(path, people.draw())
    return path


def save_grids(people: People, path: Path) -> Path:
    """One stage x joint picture per person who kept his maps: ``path``, then path_1, path_2, ..."""
    from cpm_repro.viz import belief_grid, save_png

    for number, person in enumerate(people):
        if person.crop is not None:
            target = path.with_stem(f"{path.stem}_{number}") if number else path
            save_png(target, belief_grid(person.crop, list(person.belief_maps), person.names))
    return path


def save_maps(people: People, path: Path) -> None:
    """Belief maps of people who kept theirs, as npz.

    ``stage1``, ``stage2``, ... (P, K+1, h, w) float32, background last; ``crop_to_image`` (P, 2, 3) takes
    crop pixels to image pixels, and a map's cell g is at crop pixel (g + 0.5) * ``cell`` - 0.5; ``crops``
    (P, S, S, 3) uint8 BGR; ``keypoints`` (P, K, 2), ``scores`` (P, K), ``names`` (K,).
    """
    kept = [person for person in people if person.belief_maps]
    if not kept:
        return
    crops = np.stack([person.crop for person in kept])  # type: ignore[misc]
    stages = [np.stack(maps) for maps in zip(*(person.belief_maps for person in kept), strict=True)]
    arrays: dict[str, Any] = {
        "names": np.array(kept[0].names),
        "keypoints": np.stack([person.keypoints for person in kept]),
        "scores": np.stack([person.scores for person in kept]),
        "crops": crops,
        "crop_to_image": np.stack([person.crop_to_image for person in kept]),  # type: ignore[misc]
        "cell": np.array(crops.shape[1] / stages[0].shape[-1]),
        **{f"stage{number}": maps for number, maps in enumerate(stages, start=1)},
    }
    with atomic_write(path) as file:
        np.savez_compressed(file, **arrays)


def write_prediction(people: People, out: Path, name: str) -> tuple[Path, Path]:
    """JSON, overlay and grids of one image; returns the paths of overlay and first grid."""
    people.save_json(out / "predictions" / f"{name}.json")
    folder = out / "visualizations"
    return save_overlay(people, folder / f"{name}.png"), save_grids(people, folder / f"{name}{BELIEFS}.png")
