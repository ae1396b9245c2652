"""LMDBs of training records: the release's layout, read and written record by record, never loaded whole."""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.data.datum_record import decode_record, encode_record
from cpm_repro.data.images import inside, read_image
from cpm_repro.data.record import PersonRecord, record_joints
from cpm_repro.data.sample import PoseSample, center_and_extent
from cpm_repro.errors import EnvironmentFailure, UserError
from cpm_repro.files import write_json
from cpm_repro.skeleton import CPM14, FLIC9, Skeleton

_PLAN = "cpm_write_plan.json"
_COMMIT_EVERY = 200
_MAP_GROWTH = 1 << 30


def write_lmdb(
    records: Sequence[PersonRecord],
    images: str | Path,
    out: str | Path,
    seed: int = 0,
    progress: bool = False,
) -> int:
    """Write records in one random order under the keys 0000000, 0000001, ...; a killed call resumes.

    Each transaction holds `_COMMIT_EVERY` records, so that what a killed run leaves is a complete
    beginning. A second call with the same records and seed continues behind it; other records or another
    seed are refused.

    Args:
        records: what to write.
        images: folder that the records' paths are relative to; no path may leave it.
        out: folder of the LMDB.
        seed: of the order.
        progress: show a progress bar.

    Returns:
        Number of records written by this call.

    Raises:
        UserError: unreadable image, record that does not fit, or an LMDB begun from something else.
        EnvironmentFailure: the disk is full.
    """
    import lmdb
    from tqdm import tqdm

    out = Path(out)
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(records))
    _check_plan(out, records, seed)
    environment = lmdb.open(str(out), map_size=_MAP_GROWTH, subdir=True)
    try:
        begun = _continuous_count(environment, out, len(records))
        with tqdm(total=len(records), initial=begun, disable=not progress, unit="people") as bar:
            for first in range(begun, len(records), _COMMIT_EVERY):
                last = min(first + _COMMIT_EVERY, len(records))
                chunk = {
                    b"%07d" % place: _encode(records[order[place]], Path(images), place, len(records))
                    for place in range(first, last)
                }
                _put(environment, chunk, out)
                bar.update(last - first)
        environment.sync(True)
    finally:
        environment.close()
    return len(records) - begun


def _encode(record: PersonRecord, images: Path, place: int, total: int) -> bytes:
    return encode_record(read_image(inside(images, record.img_path)), record, place, total)


def _check_plan(out: Path, records: Sequence[PersonRecord], seed: int) -> None:
    """Leave a note of what is being written, or compare with the one that an earlier call left."""
    digest = hashlib.sha256()
    for record in records:
        values = [record.objpos, record.joint_self, record.joint_others]
        values += [record.scale_other, record.objpos_other]
        digest.update(f"{record.name} {record.scale} {record.is_validation} {record.annolist_index}".encode())
        for value in values:
            digest.update(np.ascontiguousarray(value, np.float64).tobytes())
    plan = {"records": len(records), "seed": seed, "sha256": digest.hexdigest()}
    path = out / _PLAN
    if path.exists():
        if json.loads(path.read_text()) != plan:
            raise UserError(f"{out}: holds an LMDB begun from other records or another seed; write elsewhere")
        return
    if (out / "data.mdb").exists():
        raise UserError(f"{out}: holds an LMDB that was not begun here; write elsewhere")
    write_json(path, plan)


def _continuous_count(environment: Any, out: Path, total: int) -> int:
    """How many records are there; they must be the first so many."""
    with environment.begin() as transaction:
        entries = int(transaction.stat()["entries"])
        if entries:
            cursor = transaction.cursor()
            cursor.last()
            if cursor.key() != b"%07d" % (entries - 1) or entries > total:
                raise UserError(f"{out}: expected the records 0 to {entries - 1}, got other keys")
        return entries


def _put(environment: Any, chunk: dict[bytes, bytes], out: Path) -> None:
    """One transaction; the map grows when it is full."""
    import lmdb

    while True:
        try:
            with environment.begin(write=True) as transaction:
                for key, value in chunk.items():
                    transaction.put(key, value, append=True)
            return
        except lmdb.MapFullError:
            environment.set_mapsize(environment.info()["map_size"] + _MAP_GROWTH)
        except lmdb.Error as error:
            raise EnvironmentFailure(f"cannot write {out}: {error}") from error


def is_lmdb_folder(folder: Path) -> bool:
    """Whether ``folder`` holds an LMDB."""
    return (folder / "data.mdb").is_file()


_ENVIRONMENTS: weakref.WeakValueDictionary[Path, Any] = weakref.WeakValueDictionary()
"""LMDB allows a process one open environment per file; the splits of a data set share it."""


def _open_shared(folder: Path) -> Any:
    """The read-only environment of ``folder``, opened once; it closes with its last user."""
    import lmdb

    environment = _ENVIRONMENTS.get(folder.resolve())
    if environment is None:
        try:
            environment = lmdb.open(str(folder), readonly=True, lock=False, create=False)
        except lmdb.Error as error:
            raise UserError(f"{folder}: expected an LMDB, but it cannot be opened: {error}") from error
        _ENVIRONMENTS[folder.resolve()] = environment
    return environment


class LmdbDataset:
    """An LMDB in the release's layout as samples with a ``scale``.

    Keys are listed, values read when asked for.

    Args:
        folder: of the LMDB.
        split: "train" takes the records not marked as validation, "val" those that are, None all in key
            order.
        skeleton: of the samples; None takes 9 parts for FLIC and the networks' 14 otherwise.
        joints: per person in the records; None takes 9 for FLIC and 16 otherwise.
        size: only the first so many.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str | None = None,
        skeleton: Skeleton | None = None,
        joints: int | None = None,
        size: int | None = None,
    ) -> None:
        self._folder, self._joints = Path(folder), joints
        self._environment = _open_shared(self._folder)
        keys = self._list(split)
        if not keys:
            raise UserError(f"{folder}: holds no records" + (f" of the split {split}" if split else ""))
        self._keys = keys[:size]
        _, first = self._read(self._keys[0])
        self._skeleton = skeleton or (FLIC9 if first.dataset == "FLIC" else CPM14)
        self._name = first.dataset

    def _list(self, split: str | None) -> list[bytes]:
        """Keys of a split. Only the flag is looked at: values are views into the map, not copies."""
        with self._environment.begin(buffers=True) as transaction:
            keys = [bytes(key) for key in transaction.cursor().iternext(keys=True, values=False)]
        if split is None:
            return keys
        return [key for key in keys if self._read(key)[1].is_validation == (split == "val")]

    def _read(self, key: bytes) -> tuple[np.ndarray, PersonRecord]:
        name = f"{self._folder} record {key.decode('ascii', 'replace')}"
        with self._environment.begin() as transaction:
            return decode_record(transaction.get(key) or b"", name, self._joints)

    @property
    def name(self) -> str:
        """The data set's name in the first record."""
        return self._name

    @property
    def skeleton(self) -> Skeleton:
        """Parts of the samples."""
        return self._skeleton

    def __len__(self) -> int:
        return len(self._keys)

    def record(self, index: int) -> tuple[np.ndarray, PersonRecord]:
        """Image and record as stored (1-based)."""
        return self._read(self._keys[index])

    def __getitem__(self, index: int) -> PoseSample:
        image, record = self.record(index)
        return record_sample(image, record, len(self._skeleton))


def record_sample(image: np.ndarray, record: PersonRecord, parts: int) -> PoseSample:
    """A record as the data layer understands it: joints 0-based and judged, centre objpos."""
    joints, visible, objpos = record_joints(record, parts)
    _, extent = center_and_extent(joints[0], visible[0])
    if not extent > 0:  # nobody visible: the person's height stands in
        extent = 200.0 * record.scale
    return PoseSample(image, joints, visible, objpos, extent, record.name, record.scale)
