"""What `cpm data json` and `cpm data lmdb` do: read people, report the unusable ones, write the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cpm_repro.data.image_sizes import noted_sizes
from cpm_repro.data.lmdb_write import write_lmdb
from cpm_repro.data.record_json import write_records
from cpm_repro.data.record_set import RecordSet, read_record_set, without_misfits
from cpm_repro.errors import UserError


def json_command(path: str | Path, out: str | Path, *, strict: bool = False, progress: bool = False) -> str:
    """Write ``out``/<data set>_annotations.json from original annotation files; returns the summary.

    Images that were looked at before a kill are not looked at again.

    Raises:
        UserError: nothing readable at ``path``, or nobody who can be used; with ``strict`` the first
            person who cannot be used.
    """
    out = Path(out)
    if out.suffix == ".json":
        raise UserError(f"{out}: expected a folder; the file in it is named by its data set")
    with noted_sizes(out / ".image_sizes.part") as sizes:
        people = read_record_set(path, sizes, strict=strict, progress=progress)
        _refuse_nobody([people])
        target = out / f"{people.dataset}_annotations.json"
        write_records(target, people.records)
    return f"{people.summary()}\n{target}"


def lmdb_command(
    paths: Sequence[str | Path],
    out: str | Path,
    images: Sequence[str | Path] = (),
    *,
    compact: bool = False,
    seed: int = 0,
    strict: bool = False,
    progress: bool = False,
) -> str:
    """Write one LMDB of all ``paths``, record files or data sets; returns the summary.

    Args:
        paths: what `read_record_set` reads.
        out: folder of the LMDB.
        images: image folders of record files, one for all or one each.
        compact: our layout instead of the release's.
        seed: of the order.
        strict: raise at the first person who cannot be used.
        progress: show bars.

    Raises:
        UserError: nothing readable, nobody who can be used, or folders that do not match in number.
    """
    if len(images) not in (0, 1, len(paths)):
        raise UserError(f"--images: expected one folder or {len(paths)}, got {len(images)}")
    folders: list[str | Path | None] = [*images, *[images[0] if images else None] * len(paths)][: len(paths)]
    sets: list[RecordSet] = []
    with noted_sizes(Path(out) / "image_sizes.part") as sizes:
        for path, folder in zip(paths, folders, strict=True):
            people = read_record_set(path, sizes, folder, strict=strict, progress=progress)
            sets.append(people if compact else without_misfits(people, strict=strict))
        records = [record for people in sets for record in people.records]
        files = [file for people in sets for file in people.files]
        _refuse_nobody(sets)
        written = write_lmdb(records, files, out, compact=compact, seed=seed, progress=progress)
    size = (Path(out) / "data.mdb").stat().st_blocks * 512
    lines = [people.summary() for people in sets]
    lines.append(
        f"{out}: {len(records)} people of {len(set(files))} images in {size / 1e6:.1f} MB"
        + (f", {len(records) - written} of them from an earlier call" if written < len(records) else "")
    )
    return "\n".join(lines)


def _refuse_nobody(sets: Sequence[RecordSet]) -> None:
    """An empty file of records would be found out only by whoever trains on it.

    Raises:
        UserError: none of the sets has a record; a line for all.
    """
    if not any(people.records for people in sets):
        summaries = "; ".join(" ".join(people.summary(limit=1).split()) for people in sets)
        raise UserError(f"{summaries}: nobody to write")
