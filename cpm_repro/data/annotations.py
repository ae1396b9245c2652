"""What every reader of annotation files gives: images with their labelled people, and what was wrong."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cpm_repro.data.image_cache import DEFAULT_CACHE_BYTES, ImageCache
from cpm_repro.data.sample import (
    FARTHEST,
    PoseSample,
    are_pixels,
    center_and_extent,
    extent_around,
    is_scale,
)
from cpm_repro.errors import UserError
from cpm_repro.files import inside
from cpm_repro.skeleton import Skeleton, Visibility, permutation


@dataclass(frozen=True, slots=True)
class Person:
    """One labelled person, **0-based** pixels.

    Attributes:
        joints: (K, 2) float64 in the order of the annotations' skeleton.
        visible: (K,) uint8 Visibility; CROPPED is missing or unlabelled.
        number: 1-based position among the image's people, as the file counts them (MPII) or as they come.
        center: (2,) as the file gives it; None when it does not.
        scale: height / 200 px; NaN when the file does not say.
        split: "train", "val", "test" or "" when the file does not say.
        box: (x1, y1, x2, y2) of what the data set boxes (MPII the head, FLIC the torso, COCO the person).
    """

    joints: np.ndarray
    visible: np.ndarray
    number: int = 1
    center: np.ndarray | None = None
    scale: float = math.nan
    split: str = ""
    box: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One picture: its path relative to the image folder, its 1-based number in the file, its people.

    ``size`` is the (width, height) in which the file counts, where it says so; see `other_size`.
    """

    path: str
    number: int
    people: tuple[Person, ...]
    size: tuple[int, int] | None = None


def other_size(image: AnnotatedImage, size: tuple[int, int]) -> str:
    """That the file counts in other pixels than those of a picture of ``size`` (width, height), or "".

    A pixel more or less is the rounding of whoever made the picture smaller.
    """
    if image.size is None or max(abs(a - b) for a, b in zip(image.size, size, strict=True)) <= 1:
        return ""
    (w, h), (width, height) = image.size, size
    return f"the annotations are of {w} x {h} pixels, the image has {width} x {height}"


@dataclass(frozen=True, slots=True)
class Problem:
    """An item that could not be used: its id in the file and why."""

    id: str
    what: str

    def __str__(self) -> str:
        return f"{self.id}: {self.what}"


@dataclass(frozen=True, slots=True)
class Annotations:
    """A file of annotations.

    ``read`` people = people in ``images`` + ``problems``: nothing is dropped silently.
    """

    name: str
    skeleton: Skeleton
    images: tuple[AnnotatedImage, ...]
    problems: tuple[Problem, ...]
    read: int

    def people(self) -> Iterator[tuple[AnnotatedImage, Person]]:
        """Every person with the image, in the file's order."""
        return ((image, person) for image in self.images for person in image.people)

    def summary(self, lost: int = 0) -> str:
        """One line of counts; ``lost`` of the people are found to have no image that can be used."""
        used = sum(len(image.people) for image in self.images) - lost
        return f"{self.name}: {self.read} people read, {used} used, {self.read - used} reported"


_BUILT_IN = ("mpii", "flic", "lsp", "lspet", "synthetic")


def own_name(path: str | Path) -> str:
    """What a user's data set is called: as its file, but never as one that is treated in a way of its own."""
    stem = Path(path).stem
    return f"own {stem}" if stem in _BUILT_IN else stem


class DataWarning(UserWarning):
    """People of a data set are left out; the message counts and names them."""


def warn_of(name: str, read: int, problems: Sequence[Problem], shown: int = 3) -> None:
    """Say who is left out, if anybody."""
    if problems:
        first = "; ".join(map(str, problems[:shown])) + ("; ..." if len(problems) > shown else "")
        counts = f"{read} people read, {read - len(problems)} used, {len(problems)} reported"
        warnings.warn(f"{name}: {counts}: {first}", DataWarning, stacklevel=3)


@dataclass
class Intake:
    """Collects people while a file is read: good ones by image, bad ones as problems.

    Strict raises at the first.
    """

    strict: bool = False
    read: int = 0
    problems: list[Problem] = field(default_factory=list)
    _images: dict[str, AnnotatedImage] = field(default_factory=dict)
    _people: dict[str, list[Person]] = field(default_factory=dict)

    def report(self, identity: str, what: str) -> None:
        """Count a person who cannot be used."""
        self.read += 1
        self.problems.append(Problem(identity, what))
        if self.strict:
            raise UserError(str(self.problems[-1]))

    def add(
        self,
        identity: str,
        path: str,
        person: Person,
        image: int | None = None,
        rank: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Count a person and check what every data set has to fulfil.

        ``image`` and ``rank`` number image and person (from 1) where the file does; else they are counted.
        ``size`` is the image's, where the file says so.
        """
        what = fault(person)
        if what:
            self.report(identity, what)
            return
        self.read += 1
        self._images.setdefault(path, AnnotatedImage(path, image or len(self._images) + 1, (), size))
        people = self._people.setdefault(path, [])
        people.append(replace(person, number=rank or len(people) + 1))

    def done(self, name: str, skeleton: Skeleton) -> Annotations:
        """The finished annotations."""
        images = tuple(
            replace(image, people=tuple(self._people[path])) for path, image in self._images.items()
        )
        return Annotations(name, skeleton, images, tuple(self.problems), self.read)


def fault(person: Person) -> str:
    """Why a person cannot be used, or ""."""
    labelled = person.visible != Visibility.CROPPED
    if not labelled.any():
        return "no labelled joint"
    if not are_pixels(person.joints[labelled]):
        return f"a labelled joint is NaN or beyond {FARTHEST:g} px"
    if math.isnan(person.scale) and np.ptp(person.joints[labelled], axis=0).max() <= 0:
        return "the box of the labelled joints has no size"
    if person.center is not None and not are_pixels(person.center):
        return f"the centre is NaN or beyond {FARTHEST:g} px"
    if not math.isnan(person.scale) and not is_scale(person.scale):
        return f"scale: expected a positive number, got {person.scale:g}"
    return ""


def place_of(person: Person) -> tuple[np.ndarray, float]:
    """(2,) float32 centre and extent of a person without `fault`: the file's centre, else the joints' own."""
    center, _ = center_and_extent(person.joints, person.visible)
    if person.center is not None:
        center = person.center.astype(np.float32)
    return center, extent_around(center, person.joints, person.visible, person.scale)


class PeopleDataset:
    """Annotations as samples: one per person, the others of the image behind him.

    Args:
        annotations: what a reader gave.
        root: folder that image paths are relative to; no path may leave it.
        skeleton: of the samples; its parts must be among the annotations'. None keeps the annotations'.
        people: which, as positions in ``annotations.people()``; None takes all.
        cache_bytes: memory for decoded images.
    """

    def __init__(
        self,
        annotations: Annotations,
        root: str | Path,
        skeleton: Skeleton | None = None,
        people: Sequence[int] | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        self._root = Path(root)
        self._skeleton = skeleton or annotations.skeleton
        self._order = list(permutation(annotations.skeleton.parts, self._skeleton.parts))
        everybody = [(image, rank) for image in annotations.images for rank in range(len(image.people))]
        self._people = everybody if people is None else [everybody[index] for index in people]
        self._name = annotations.name
        self._cache = ImageCache(cache_bytes)

    @property
    def name(self) -> str:
        """Name in tables."""
        return self._name

    @property
    def skeleton(self) -> Skeleton:
        """Parts of the samples."""
        return self._skeleton

    def __len__(self) -> int:
        return len(self._people)

    def __getitem__(self, index: int) -> PoseSample:
        image, rank = self._people[index]
        own = image.people[rank]
        order = [own, *(other for other in image.people if other is not own)]
        joints = np.stack([person.joints[self._order] for person in order])
        visible = np.stack([person.visible[self._order] for person in order])
        joints = np.where((visible == Visibility.CROPPED)[..., None], 0, joints).astype(np.float32)
        center, extent = place_of(own)
        picture = self._cache.read(inside(self._root, image.path))
        if what := other_size(image, (picture.shape[1], picture.shape[0])):
            raise UserError(f"{self._root / image.path}: {what}")
        return PoseSample(
            image=picture,
            joints=joints,
            visible=visible,
            center=center,
            extent=extent,
            id=f"{self._name}/{image.path}#{own.number}",
            scale=own.scale,
        )


def mark_held_out(annotations: Annotations) -> Annotations:
    """The same people, those whom `split_people` holds out marked "val"."""
    held_out = set(split_people(annotations, "val"))
    numbers = iter(range(annotations.read))
    images = tuple(
        replace(
            image,
            people=tuple(
                replace(person, split="val") if next(numbers) in held_out else person
                for person in image.people
            ),
        )
        for image in annotations.images
    )
    return replace(annotations, images=images)


def split_people(annotations: Annotations, split: str, step: int = 18) -> list[int]:
    """Positions in ``annotations.people()`` of a split.

    Files that mark held-out people are believed ("test" stands in where nobody is "val"); who bears no mark
    there trains. Others hold out every ``step``-th image with everybody in it, so that no picture is in both.
    """
    people = list(annotations.people())
    marks = {person.split for _, person in people}
    if marks & {"val", "test"}:
        held_out = "val" if "val" in marks else "test"
        wanted = (held_out,) if split == "val" else ("train", "")
        return [index for index, (_, person) in enumerate(people) if person.split in wanted]
    chosen = {image.path for image in annotations.images[::step]}
    return [index for index, (image, _) in enumerate(people) if (image.path in chosen) == (split == "val")]
