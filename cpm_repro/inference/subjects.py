"""The people of a data set as the release's test procedure takes them: centre, scale and truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from cpm_repro.config import FULL_CROP, PERSON_HEIGHT, AugmentConfig, person_share, unknown
from cpm_repro.data import (
    Annotations,
    PoseDataset,
    PoseSample,
    open_dataset,
    other_size,
    place_of,
    read_annotations,
)
from cpm_repro.data.lmdb_store import is_lmdb_folder
from cpm_repro.data.lsp import LspetDataset, lspet_folder
from cpm_repro.data.lsp_scale import TARGET
from cpm_repro.data.mpii_test import read_mpii_test
from cpm_repro.data.open import MPII_MAT, split_people
from cpm_repro.errors import UserError
from cpm_repro.evaluation.truth_files import HEAD_SHARE
from cpm_repro.files import inside
from cpm_repro.image_file import read_image
from cpm_repro.inference.procedure import lsp_place, person_scale
from cpm_repro.skeleton import CPM14, FLIC9, LSP14, MPII16, Skeleton, Visibility, permutation

Split = Literal["val", "all", "test", "test-all"]
SPLITS: tuple[Split, ...] = ("val", "all", "test", "test-all")

MPII_KEPT = tuple(part for part in MPII16.parts if part not in ("pelvis", "thorax"))
"""The 14 of MPII's joints that the networks have, in MPII's order."""

BY_FILE = "centre and scale of the data set's file; scale0 = (41/35) / scale"
BY_IMAGE = "the image's middle, scale0 = 0.8 / (image height / 368), as the release does for LSP"
BY_JOINTS = (
    "the data set's centre, else the middle of the labelled joints' box; the box around it that holds them, "
    "brought to the size the network was trained on"
)


def known_size(augment: AugmentConfig) -> float:
    """The scale_provided that people had in a box of 368 px when a network was trained.

    The release's is 41/35, which its prototxts round to a target_dist of 1.171.
    """
    target = person_share(augment) * FULL_CROP / PERSON_HEIGHT
    return TARGET if math.isclose(target, TARGET, abs_tol=5e-4) else target


def _by_scale(augment: AugmentConfig) -> str:
    """`BY_FILE` in words, for networks that know people of another size, too."""
    target = known_size(augment)
    return BY_FILE if target == TARGET else BY_FILE.replace("(41/35)", f"{target:.4g}")


@dataclass(frozen=True)
class Truth:
    """What is known of one person; pixels, 0-based, the network's order of parts."""

    id: str
    image: str  # name in the data set
    joints: np.ndarray | None = None  # (K, 2); None: secret
    labelled: np.ndarray | None = None  # (K,) bool
    extent: float = math.nan  # longer side of the box around the centre that holds the labelled joints, px
    head_size: float = math.nan  # px
    torso_box_wh: tuple[float, float] | None = None  # px
    number: tuple[int, int] = (0, 0)  # 1-based image and person in MPII's RELEASE
    stated: tuple[float, ...] = ()  # centre x, y and scale, where the data set states them


@dataclass(frozen=True)
class Subject:
    """One person for :class:`BenchmarkProcedure`."""

    image: np.ndarray  # (H, W, 3) uint8 BGR
    center: tuple[float, float]  # 0-based pixels
    scale0: float


class Subjects(Protocol):
    """The people of one split.

    Attributes:
        name: of the data set. skeleton: parts of the truth, in the network's order.
        placed: where centre and scale come from, in words.
        protocol: the rule that scores them. file_parts: the parts as the data set orders them.
        release_file: MPII's file, where predictions go back into it.
    """

    name: str
    skeleton: Skeleton
    placed: str
    protocol: str
    file_parts: tuple[str, ...]
    release_file: Path | None

    def __len__(self) -> int: ...

    def truth(self, index: int) -> Truth:
        """What is known of a person; reads no image where the data set allows that."""

    def subject(self, index: int) -> Subject:
        """The person's photograph and place; UserError when it cannot be used."""


def open_subjects(spec: str, split: Split, augment: AugmentConfig) -> Subjects:
    """The people of ``spec`` (see `open_dataset`) whom the procedure is to estimate.

    Args:
        spec: "synthetic", or a path. MPII's, LSP's and FLIC's people are placed as in the release, those of
            other data as the network's own were (``augment.method``): by centre and scale where they have
            them, or by their labelled joints.
        split: "val", the held-out people (LSP and FLIC: their test set); "all", everybody in an annotation
            file; "test", MPII's unlabelled people who stand apart; "test-all", all of those.
        augment: how the network's people were placed, for data sets that the release does not know.

    Raises:
        UserError: no such data set, nobody in the split.
    """
    path = Path(spec)
    if split in ("test", "test-all"):
        return UnlabelledSubjects(_mpii_file(path), single=split == "test")
    if split not in SPLITS:
        raise UserError(unknown("split", split, list(SPLITS)))
    if not path.exists() or is_lmdb_folder(path) or lspet_folder(path):
        if split != "val":
            raise UserError(
                f"{spec}: only its held-out people can be taken: wanted the split val, got {split}"
            )
        return SampledSubjects(open_dataset(spec, "val"), augment)
    annotations, images, skeleton = read_annotations(path)
    everybody = range(sum(1 for _ in annotations.people()))
    chosen = split_people(annotations, "val") if split == "val" else list(everybody)
    if not chosen:
        raise UserError(f"{spec}: {annotations.summary()}; nobody is held out there")
    return AnnotatedSubjects(annotations, images, skeleton, chosen, augment)


def _mpii_file(path: Path) -> Path:
    return path / MPII_MAT if path.is_dir() else path


def _images_beside(file: Path) -> Path:
    return file.parent / "images" if (file.parent / "images").is_dir() else file.parent


class AnnotatedSubjects:
    """People of an annotation file: MPII, LSP, FLIC, COCO, CSV."""

    release_file: Path | None = None

    def __init__(
        self,
        annotations: Annotations,
        root: Path,
        skeleton: Skeleton | None,
        people: Sequence[int],
        augment: AugmentConfig,
    ) -> None:
        everybody = list(annotations.people())
        self._people = [everybody[index] for index in people]
        self._root = root
        self._share, self._target = person_share(augment), TARGET
        self._last: tuple[str, np.ndarray] | None = None
        self.name = annotations.name
        self.skeleton = skeleton or annotations.skeleton
        self._order = list(permutation(annotations.skeleton.parts, self.skeleton.parts))
        known = {"mpii": (MPII_KEPT, BY_FILE), "flic": (FLIC9.parts, BY_FILE), "lsp": (LSP14.parts, BY_IMAGE)}
        by_file = augment.method != "box" and all(
            person.center is not None and person.scale > 0 for _, person in self._people
        )
        own = (self.skeleton.parts, _by_scale(augment) if by_file else BY_JOINTS)
        self.file_parts, self.placed = known.get(self.name, own)
        if self.name not in known:
            self._target = known_size(augment)
        heads = self.name == "mpii" and any(person.box is not None for _, person in self._people)
        self.protocol = {"lsp": "lsp-pck", "flic": "flic-pck"}.get(self.name, "lspet-pck")
        self.protocol = "mpii-pckh" if heads else self.protocol

    def __len__(self) -> int:
        return len(self._people)

    def truth(self, index: int) -> Truth:
        """See `Subjects`."""
        image, person = self._people[index]
        box = person.box
        return Truth(
            id=f"{image.path}#{person.number}",
            image=image.path,
            joints=person.joints[self._order],
            labelled=person.visible[self._order] != Visibility.CROPPED,
            extent=place_of(person)[1],
            head_size=HEAD_SHARE * float(np.hypot(box[2] - box[0], box[3] - box[1]))
            if box is not None and self.name == "mpii"
            else math.nan,
            torso_box_wh=(float(box[2] - box[0]), float(box[3] - box[1]))
            if box is not None and self.name == "flic"
            else None,
            number=(image.number, person.number),
            stated=() if person.center is None else (*_point(person.center), float(person.scale)),
        )

    def subject(self, index: int) -> Subject:
        """See `Subjects`."""
        image, person = self._people[index]
        pixels = self._image(image.path)
        if what := other_size(image, (pixels.shape[1], pixels.shape[0])):
            raise UserError(f"{image.path}: {what}")
        if self.placed == BY_IMAGE:
            return Subject(pixels, *lsp_place(pixels.shape[:2]))
        if self.placed != BY_JOINTS:
            assert person.center is not None
            return Subject(pixels, _point(person.center), person_scale(person.scale, self._target))
        center, extent = place_of(person)
        return Subject(pixels, _point(center), self._share * FULL_CROP / extent)

    def _image(self, path: str) -> np.ndarray:
        """The photograph; people of one image follow each other."""
        if self._last is None or self._last[0] != path:
            self._last = (path, read_image(inside(self._root, path)))
        return self._last[1]


class SampledSubjects:
    """People of a data set that hands out samples: LSP-extended, LMDB, synthetic."""

    release_file: Path | None = None
    protocol = "lspet-pck"

    def __init__(self, dataset: PoseDataset, augment: AugmentConfig) -> None:
        self._dataset = dataset
        self._share, self._target = person_share(augment), known_size(augment)
        by_file = augment.method != "box" and math.isfinite(self._stated(0).scale)
        self.placed = _by_scale(augment) if by_file else BY_JOINTS
        self.name = dataset.name
        self.skeleton = dataset.skeleton
        lspet = self.name == "lspet"
        self.file_parts = LSP14.parts if lspet else self.skeleton.parts

    def __len__(self) -> int:
        return len(self._dataset)

    def _stated(self, index: int) -> PoseSample:
        """The sample; but of LSP-extended decodes the image, which it brings with it."""
        people = self._dataset
        return people.labels(index) if isinstance(people, LspetDataset) else people[index]

    def truth(self, index: int) -> Truth:
        """See `Subjects`."""
        sample = self._stated(index)
        return Truth(
            id=sample.id,
            image=sample.id,
            joints=sample.joints[0].astype(np.float64),
            labelled=sample.visible[0] != Visibility.CROPPED,
            extent=sample.extent,
        )

    def subject(self, index: int) -> Subject:
        """See `Subjects`."""
        sample = self._dataset[index]
        if self.placed == BY_JOINTS:
            scale0 = self._share * FULL_CROP / sample.extent
        else:
            scale0 = person_scale(sample.scale, self._target)
        return Subject(np.array(sample.image), _point(sample.center), scale0)  # a cached image is read-only


class UnlabelledSubjects:
    """MPII's test people, whose joints are secret."""

    name = "mpii"
    skeleton = CPM14
    placed = BY_FILE
    protocol = "mpii-pckh"
    file_parts = MPII_KEPT

    def __init__(self, file: Path, single: bool) -> None:
        self._people = read_mpii_test(file, single)
        self._root = _images_beside(file)
        self.release_file: Path | None = file

    def __len__(self) -> int:
        return len(self._people)

    def truth(self, index: int) -> Truth:
        """See `Subjects`."""
        person = self._people[index]
        return Truth(
            id=f"{person.image}#{person.person}",
            image=person.image,
            number=(person.number, person.person),
            stated=(*map(float, person.center), float(person.scale)),
        )

    def subject(self, index: int) -> Subject:
        """See `Subjects`."""
        person = self._people[index]
        image = read_image(inside(self._root, person.image))
        return Subject(image, person.center, person_scale(person.scale))


def _point(values: np.ndarray) -> tuple[float, float]:
    return float(values[0]), float(values[1])
