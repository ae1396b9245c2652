"""Looking through a data set for what usually goes wrong, item by item, before anybody trains on it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpm_repro.data.annotations import AnnotatedImage, Annotations, Intake, Person, Problem, other_size
from cpm_repro.data.flic import faces_away, read_flic
from cpm_repro.data.lmdb_store import is_lmdb_folder
from cpm_repro.data.lsp import lspet_folder, read_lspet_joints
from cpm_repro.data.open import read_annotations
from cpm_repro.data.sample import outside
from cpm_repro.errors import UserError
from cpm_repro.files import inside
from cpm_repro.image_file import read_image, turned_size
from cpm_repro.skeleton import FLIC9, LSP14, Skeleton, Visibility

SAME_PERSON_PX = 2.0
"""Two people of one image whose common joints lie this close on average are one person labelled twice."""

KINDS = ("unusable", "image", "size", "turned", "outside", "swapped", "duplicate", "scale")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing worth a look: a kind of KINDS, where, and what."""

    kind: str
    problem: Problem


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found, and in the data of which ``skeleton``.

    People read = used + reported: the unusable ones and those whose image does not open or is of another size
    than the file says. The other findings are about people that are used.
    """

    summary: str
    findings: tuple[Finding, ...]
    skeleton: Skeleton

    def to_text(self, limit: int = 10) -> str:
        """The summary, counts per kind, and up to ``limit`` lines of each kind."""
        counts = Counter(finding.kind for finding in self.findings)
        lines = [self.summary, ", ".join(f"{kind}: {counts[kind]}" for kind in KINDS), self._body()]
        for kind in KINDS:
            found = [str(finding.problem) for finding in self.findings if finding.kind == kind]
            lines += [f"  {kind}: {line}" for line in found[:limit]]
            if len(found) > limit:
                lines.append(f"  {kind}: and {len(found) - limit} more")
        return "\n".join(lines)

    def _body(self) -> str:
        """The parts and what belongs together, as training will take it."""
        parts = self.skeleton.parts
        pairs = ", ".join(f"{parts[a]} - {parts[b]}" for a, b in self.skeleton.flip_pairs)
        torso = " - ".join(parts[end] for end in self.skeleton.torso or ())
        if len(parts) == 1:
            torso = "the object's size"  # one part has no distance of its own
        return (
            f"{len(parts)} parts: {', '.join(parts)}; mirrored: {pairs or 'none'}; "
            f"scores divide by: {torso or 'nothing yet, training wants a torso in skeleton.toml'}"
        )


def check_data(path: str | Path, strict: bool = False, progress: bool = False) -> CheckReport:
    """Check a data set: everything `open_dataset` reads except LMDBs and the synthetic people.

    Reported are people that cannot be used; images that do not open, are of another size than the file says,
    or are turned by viewers; labelled joints outside of their image; left and right that look swapped; people
    labelled twice; people without a scale where others have one, or of a pixel or two.

    Args:
        path: folder or annotation file.
        strict: raise at the first unusable person or image.
        progress: show a bar over the images.

    Raises:
        UserError: the annotations as a whole cannot be read; with ``strict`` the first finding of kind
            "unusable" or "image".
    """
    from tqdm import tqdm

    annotations, images = _read(Path(path), strict)
    findings = [Finding("unusable", problem) for problem in annotations.problems]
    lost = 0
    scaled = any(not math.isnan(person.scale) for _, person in annotations.people())
    for image in tqdm(annotations.images, disable=not progress, unit="images"):
        size = _size(images, image, findings, strict)
        lost += len(image.people) if size is None or other_size(image, size) else 0
        findings += [] if size is None else _other_pixels(images, image, size)
        for person in image.people:
            name = f"{image.path} person {person.number}"
            notes = {"outside": _outside(person, size), "swapped": _swapped(person, annotations)}
            notes["scale"] = "no scale" if scaled and math.isnan(person.scale) else _too_small(person)
            findings += [Finding(kind, Problem(name, what)) for kind, what in notes.items() if what]
        findings += [Finding("duplicate", problem) for problem in _duplicates(image)]
    return CheckReport(annotations.summary(lost), tuple(findings), annotations.skeleton)


def _read(path: Path, strict: bool) -> tuple[Annotations, Path]:
    """The annotations as they are in the file: FLIC's people are not swapped first."""
    if not path.exists():
        raise UserError(f"{path}: expected a data set, but there is no such file or folder")
    if is_lmdb_folder(path):
        raise UserError(f"{path}: an LMDB has no annotation file to check; `cpm data show` draws its people")
    if folder := lspet_folder(path):
        return _read_lspet(folder, strict), folder / "images"
    annotations, images, _ = read_annotations(path, strict)
    if annotations.skeleton is FLIC9:
        file = path if path.is_file() else path / "examples.mat"
        annotations = read_flic(file, observer_centric=False, strict=strict)
    return annotations, images


def _read_lspet(folder: Path, strict: bool) -> Annotations:
    joints, labelled = read_lspet_joints(folder / "joints.mat")
    intake = Intake(strict)
    for index, (xy, seen) in enumerate(zip(joints, labelled, strict=True)):
        visible = np.where(seen, Visibility.VISIBLE, Visibility.CROPPED).astype(np.uint8)
        intake.add(f"person {index + 1}", f"im{index + 1:05d}.jpg", Person(xy, visible), image=index + 1)
    return intake.done("lspet", LSP14)


def _size(
    images: Path, image: AnnotatedImage, findings: list[Finding], strict: bool
) -> tuple[int, int] | None:
    try:
        height, width = read_image(inside(images, image.path)).shape[:2]
    except UserError as error:
        if strict:
            raise
        findings.append(Finding("image", Problem(image.path, str(error))))
        return None
    return width, height


def _other_pixels(images: Path, image: AnnotatedImage, size: tuple[int, int]) -> list[Finding]:
    """Joints that may have been set in other pixels than those that are read."""
    found, stored = [], _of(size)
    if shown := turned_size(inside(images, image.path)):
        what = (
            f"its EXIF data makes viewers turn it to {_of(shown)}; joints are taken in the {stored} as stored"
        )
        found.append(Finding("turned", Problem(image.path, what)))
    if what := other_size(image, size):
        found.append(Finding("size", Problem(image.path, what)))
    return found


def _of(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _outside(person: Person, size: tuple[int, int] | None) -> str:
    """Joints that training leaves out."""
    if size is None:
        return ""
    labelled = person.joints[person.visible != Visibility.CROPPED]
    count = int(outside(labelled, size).sum())
    return f"{count} labelled joints outside of the {_of(size)} image" if count else ""


def _too_small(person: Person) -> str:
    """Joints in another unit: shares of the image, above all, lie within a pixel of one another."""
    labelled = person.joints[person.visible != Visibility.CROPPED]
    extent = max(np.ptp(labelled, axis=0)) if len(labelled) > 1 else math.inf
    return f"all joints within {extent:.3g} pixels: are they shares of the image?" if extent < 2 else ""


def _swapped(person: Person, annotations: Annotations) -> str:
    """FLIC's people all face the camera; elsewhere shoulders and hips have to agree on a side."""
    if annotations.skeleton is FLIC9:
        return "left and right shoulder look swapped" if faces_away(person.joints) else ""
    spans = [_span(person, annotations.skeleton, part) for part in ("shoulder", "hip")]
    shoulders, hips = spans
    if shoulders is None or hips is None or shoulders * hips >= 0:
        return ""
    size = max(np.ptp(person.joints[person.visible != Visibility.CROPPED], axis=0))
    narrow = min(abs(shoulders), abs(hips))
    return "shoulders and hips disagree on left and right" if narrow > size / 16 else ""


def _span(person: Person, skeleton: Skeleton, part: str) -> float | None:
    """x of the left part minus x of the right one; None when one of them is not labelled."""
    names = (f"left_{part}", f"right_{part}")
    if not all(name in skeleton.parts for name in names):
        return None
    left, right = (skeleton.index(name) for name in names)
    if Visibility.CROPPED in (person.visible[left], person.visible[right]):
        return None
    return float(person.joints[left, 0] - person.joints[right, 0])


def _duplicates(image: AnnotatedImage) -> list[Problem]:
    found = []
    for rank, one in enumerate(image.people):
        for other in image.people[:rank]:
            common = (one.visible != Visibility.CROPPED) & (other.visible != Visibility.CROPPED)
            apart = np.hypot(*(one.joints[common] - other.joints[common]).T)
            if common.any() and apart.mean() <= SAME_PERSON_PX:
                found.append(Problem(f"{image.path} person {one.number}", f"same as person {other.number}"))
    return found
