"""Writing LMDBs of training records, in the release's layout or the compact one; a killed call resumes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.data.compact_record import LAYOUT, LAYOUT_KEY, encode_compact, image_key
from cpm_repro.data.datum_record import encode_record
from cpm_repro.data.lmdb_plan import PLAN
from cpm_repro.data.record import PersonRecord
from cpm_repro.data.record_json import format_record
from cpm_repro.errors import EnvironmentFailure, UserError
from cpm_repro.files import read_json, write_json
from cpm_repro.image_file import read_image
from cpm_repro.packages import optional_module

_COMMIT_EVERY = 200
_MAP_GROWTH = 1 << 30


def write_lmdb(
    records: Sequence[PersonRecord],
    files: Sequence[Path],
    out: str | Path,
    *,
    compact: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> int:
    """Write records in one random order under the keys 0000000, 0000001, ...; a killed call resumes.

    Each transaction holds `_COMMIT_EVERY` records, so that what a killed run leaves is a complete
    beginning. A second call with the same records, layout and seed continues behind it; anything else is
    refused.

    Args:
        records: what to write.
        files: image file of each record.
        out: folder of the LMDB.
        compact: each image's file once and people as text, instead of the release's layout.
        seed: of the order.
        progress: show a progress bar.

    Returns:
        Number of records written by this call.

    Raises:
        UserError: unreadable image, record that does not fit, or an LMDB begun from something else.
        EnvironmentFailure: the disk is full, or the folder cannot be written.
    """
    from tqdm import tqdm

    writer = _Writer(records, files, compact, seed)
    environment = writer.open(Path(out))
    try:
        begun = _continuous_count(environment, Path(out), len(records))
        with tqdm(total=len(records), initial=begun, disable=not progress, unit="people") as bar:
            for first in range(begun, len(records), _COMMIT_EVERY):
                last = min(first + _COMMIT_EVERY, len(records))
                _put(environment, dict(writer.values(first, last)), Path(out))
                bar.update(last - first)
        environment.sync(True)
    finally:
        environment.close()
    return len(records) - begun


@dataclass
class _Writer:
    """The values of an LMDB, in the order of their keys."""

    records: Sequence[PersonRecord]
    files: Sequence[Path]
    compact: bool
    seed: int

    def __post_init__(self) -> None:
        self.order = np.random.Generator(np.random.Philox(self.seed)).permutation(len(self.records)).tolist()
        self.numbers: dict[Path, int] = {}
        for index in self.order if self.compact else ():
            self.numbers.setdefault(self.files[index], len(self.numbers))

    def values(self, first: int, last: int) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values of the people at the places ``first`` to ``last``."""
        if self.compact and first == 0:
            yield LAYOUT_KEY, LAYOUT
        for place in range(first, last):
            record, file = self.records[self.order[place]], self.files[self.order[place]]
            if not self.compact:
                yield b"%07d" % place, encode_record(read_image(file), record, place, len(self.records))
                continue
            number = self.numbers[file]
            yield b"%07d" % place, encode_compact(record, number)
            yield image_key(number), _bytes_of(file)

    def open(self, out: Path) -> Any:
        """The environment of ``out``, after a look at the note of what is being written there."""
        lmdb = optional_module("lmdb", "lmdb", f"{out}: an LMDB")
        self._check_plan(out)
        try:
            return lmdb.open(str(out), map_size=_MAP_GROWTH, subdir=True)
        except lmdb.Error as error:
            raise _failure(out, error) from error

    def _check_plan(self, out: Path) -> None:
        digest = hashlib.sha256()
        for record in self.records:
            digest.update(format_record(record).encode())
        layout = "compact" if self.compact else "release"
        plan = {"records": len(self.records), "layout": layout, "seed": self.seed}
        plan["sha256"] = digest.hexdigest()
        path = out / PLAN
        if path.exists():
            if read_json(path) != plan:
                raise UserError(
                    f"{out}: holds an LMDB begun from other records, another layout or seed; write elsewhere"
                )
            return
        if (out / "data.mdb").exists():
            raise UserError(f"{out}: holds an LMDB that was not begun here; write elsewhere")
        write_json(path, plan)


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:  # gone since it was looked at
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error


def _continuous_count(environment: Any, out: Path, total: int) -> int:
    """How many records are there; they must be the first so many."""
    with environment.begin() as transaction:
        keys = [bytes(key) for key in transaction.cursor().iternext(keys=True, values=False)]
    people = [key for key in keys if key.isdigit()]
    if people != [b"%07d" % place for place in range(len(people))] or len(people) > total:
        raise UserError(f"{out}: expected the records 0 to {len(people) - 1}, got other keys")
    return len(people)


def _put(environment: Any, chunk: dict[bytes, bytes], out: Path) -> None:
    """One transaction; the map grows when it is full. What is there already stays."""
    import lmdb

    while True:
        try:
            with environment.begin(write=True) as transaction:
                for key, value in chunk.items():
                    transaction.put(key, value, overwrite=False)
            return
        except lmdb.MapFullError:
            environment.set_mapsize(environment.info()["map_size"] + _MAP_GROWTH)
        except lmdb.Error as error:
            raise _failure(out, error) from error


def _failure(out: Path, error: Exception) -> EnvironmentFailure:
    # A write that was cut short is an input/output error to LMDB.
    full = "; is the disk full?" if "Input/output" in str(error) else ""
    return EnvironmentFailure(f"cannot write {out}: {error}{full}")
