"""The release's records of whatever a user names, with their image files and what could not be used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cpm_repro.data.annotations import Problem, mark_held_out
from cpm_repro.data.datum_record import misfit
from cpm_repro.data.image_sizes import ImageSizes
from cpm_repro.data.lsp import LSP_TRAIN, leeds_folder
from cpm_repro.data.matlab import load_mat_array
from cpm_repro.data.open import read_annotations
from cpm_repro.data.record import RELEASE_JOINTS, PersonRecord, record_fault
from cpm_repro.data.record_json import read_record_items, record_of, rounded
from cpm_repro.data.release_records import annotation_records, gets_record, leeds_records, refuse
from cpm_repro.errors import UserError
from cpm_repro.files import inside, json_head
from cpm_repro.skeleton import FLIC9, MPII16

_LEEDS = ("lspet_dataset", "lsp_dataset")


@dataclass
class RecordSet:
    """Records with their image files. ``read`` people = records + left_out + problems.

    Attributes:
        dataset: MPI, LEEDS, FLIC, or the name of the user's own file in capitals.
        records: numbers rounded as the JSON files have them.
        files: image file of each record.
        problems: people who get no record, and why.
        left_out: people that the splits leave out (test, or unused for training).
    """

    dataset: str
    records: list[PersonRecord]
    files: list[Path]
    problems: list[Problem]
    left_out: int = 0

    @property
    def read(self) -> int:
        """People read."""
        return len(self.records) + self.left_out + len(self.problems)

    def summary(self, limit: int = 10) -> str:
        """A line of counts, then up to ``limit`` problems."""
        lines = [
            f"{self.dataset}: {self.read} people read, {len(self.records)} used, "
            f"{self.left_out} left out by the split, {len(self.problems)} reported"
        ]
        lines += [f"  {problem}" for problem in self.problems[:limit]]
        if len(self.problems) > limit:
            lines.append(f"  and {len(self.problems) - limit} more")
        return "\n".join(lines)


def read_record_set(
    path: str | Path,
    sizes: ImageSizes,
    images: str | Path | None = None,
    *,
    strict: bool = False,
    progress: bool = False,
) -> RecordSet:
    """Records of a record file, of original annotation files, or of the user's own data.

    Args:
        path: a file like `MPI_annotations.json`; a folder with `lspet_dataset/` and/or `lsp_dataset/`; or
            what `open_dataset` reads.
        sizes: looks at the images.
        images: folder that a record file's image paths are relative to; default: `images/` beside it, else
            its own folder.
        strict: raise at the first person who cannot be used.
        progress: show a bar.

    Raises:
        UserError: nothing readable there; with ``strict`` the first problem.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: expected a data set or a record file, but there is nothing")
    source = _Source(path, sizes, strict)
    content = _record_items(path)
    if content is not None:
        beside = path.parent / "images"
        source.from_items(content, Path(images) if images else beside if beside.is_dir() else path.parent)
    elif found := _leeds_folders(path):
        source.from_leeds(found)
    else:
        source.from_annotations()
    return source.collect(progress)


def _record_items(path: Path) -> list[Any] | None:
    """The items of a record file; None when ``path`` is something else."""
    if not path.is_file() or path.suffix.lower() != ".json":
        return None
    return read_record_items(path) if json_head(path).lstrip("{ \r\n\t").startswith('"root"') else None


def _leeds_folders(path: Path) -> dict[str, Path]:
    """Folders of LSP-extended and LSP by the names that the records' paths begin with; empty: other data."""
    if folder := leeds_folder(path):
        shape = load_mat_array(folder / "joints.mat", "joints", 3).shape
        return {_LEEDS[int(shape[:2] == (3, 14))]: folder}
    return {name: path / name for name in _LEEDS if (path / name).is_dir()}


class _Source:
    """One of the three origins: an iterator of records, their files, and how many there may be."""

    def __init__(self, path: Path, sizes: ImageSizes, strict: bool) -> None:
        self.path, self.sizes, self.strict = path, sizes, strict
        self.problems: list[Problem] = []
        self.left_out, self.count = 0, 0
        self.dataset = "LEEDS"
        self.folders: dict[str, Path] = {"": path}
        self.records: Iterator[PersonRecord] = iter(())
        self._files: dict[str, Path] = {}

    def report(self, identity: str, what: str) -> None:
        if self.strict:
            refuse(identity, what)
        self.problems.append(Problem(identity, what))

    def file(self, record_path: str) -> Path:
        """The image file of a record's path; the longest known prefix tells the folder."""
        if record_path not in self._files:
            prefix = max((p for p in self.folders if record_path.startswith(p)), key=len)
            self._files[record_path] = inside(self.folders[prefix], record_path.removeprefix(prefix))
        return self._files[record_path]

    def size(self, record_path: str) -> tuple[int, int]:
        return self.sizes(self.file(record_path))

    def from_items(self, items: list[Any], images: Path) -> None:
        self.folders, self.count = {"": images}, len(items)
        self.dataset = self.path.stem
        self.records = self._checked(items)

    def _checked(self, items: list[Any]) -> Iterator[PersonRecord]:
        """Records whose image opens and has the size that the record says."""
        for number, item in enumerate(items):
            identity = f"{self.path} record {number}"
            try:
                record = record_of(item, identity)
                width, height = self.size(record.img_path)
            except UserError as error:
                self.report(identity, str(error).removeprefix(f"{identity}: "))
                continue
            if (width, height) != (record.img_width, record.img_height):
                said = f"{record.img_width} x {record.img_height}"
                self.report(identity, f"{record.img_path} is {width} x {height}, the record says {said}")
                continue
            yield record

    def from_leeds(self, found: dict[str, Path]) -> None:
        self.folders = {f"{name}/": folder for name, folder in found.items()}
        extended, plain = (found[name] / "joints.mat" if name in found else None for name in _LEEDS)
        for file in filter(None, (extended, plain)):
            self.count += load_mat_array(file, "joints", 3).shape[2]
        self.records = leeds_records(extended, self.size, plain, self.report)
        if plain is not None:
            held_out = max(0, load_mat_array(plain, "joints", 3).shape[2] - LSP_TRAIN)
            self.left_out, self.count = held_out, self.count - held_out

    def from_annotations(self) -> None:
        annotations, images, _ = read_annotations(self.path, self.strict)
        self.problems += annotations.problems
        release = "MPI" if annotations.skeleton is MPII16 else "FLIC" if annotations.skeleton is FLIC9 else ""
        if not release:  # the same people are held out as where the data itself is trained on
            annotations = mark_held_out(annotations)
        people = [person for _, person in annotations.people()]
        self.count = sum(gets_record(person) for person in people)
        self.left_out = len(people) - self.count
        own = annotations.name.upper()
        self.dataset = release or (f"OWN {own}" if own in RELEASE_JOINTS else own)
        prefix = "images/" if self.dataset == "FLIC" else ""
        self.folders = {prefix: images}
        self.records = annotation_records(annotations, self.dataset, self.size, prefix, self.report)

    def collect(self, progress: bool) -> RecordSet:
        from tqdm import tqdm

        records: dict[str, PersonRecord] = {}
        for record in tqdm(self.records, total=self.count, disable=not progress, unit="people"):
            fault = record_fault(record)
            if not fault and record.name in records:
                fault = "this person of this image came before"
            if fault:
                self.report(record.name, fault)
            else:
                records[record.name] = rounded(record)
        people = list(records.values())
        files = [self.file(record.img_path) for record in people]
        dataset = people[0].dataset or self.dataset if people else self.dataset
        return RecordSet(dataset, people, files, self.problems, self.left_out)


def without_misfits(records: RecordSet, *, strict: bool = False) -> RecordSet:
    """The set without people whose annotation has no room in their image's fourth plane.

    Raises:
        UserError: with ``strict``, the first of them.
    """
    reasons = [misfit(record) for record in records.records]
    problems = [
        Problem(record.name, reason)
        for record, reason in zip(records.records, reasons, strict=True)
        if reason
    ]
    if problems and strict:
        raise UserError(str(problems[0]))
    kept = [index for index, reason in enumerate(reasons) if not reason]
    return replace(
        records,
        records=[records.records[index] for index in kept],
        files=[records.files[index] for index in kept],
        problems=records.problems + problems,
    )
