"""LMDBs of training records as a data set: the release's layout or the compact one, read record by record."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.data.annotations import Problem, warn_of
from cpm_repro.data.compact_record import LAYOUT, LAYOUT_KEY, decode_compact, parse_compact
from cpm_repro.data.datum_record import decode_record, stored_as_validation
from cpm_repro.data.lmdb_plan import refuse_unfinished
from cpm_repro.data.record import PersonRecord, record_joints
from cpm_repro.data.sample import PoseSample, extent_around
from cpm_repro.errors import UserError
from cpm_repro.packages import optional_module
from cpm_repro.skeleton import CPM14, FLIC9, Skeleton


def is_lmdb_folder(folder: Path) -> bool:
    """Whether ``folder`` holds an LMDB."""
    return (folder / "data.mdb").is_file()


_ENVIRONMENTS: weakref.WeakValueDictionary[Path, Any] = weakref.WeakValueDictionary()
"""LMDB allows a process one open environment per file; the splits of a data set share it."""


def _open_shared(folder: Path) -> Any:
    """The read-only environment of ``folder``, opened once; it closes with its last user."""
    lmdb = optional_module("lmdb", "lmdb", f"{folder}: an LMDB")
    environment = _ENVIRONMENTS.get(folder.resolve())
    if environment is None:
        try:
            environment = lmdb.open(str(folder), readonly=True, lock=False, create=False)
        except lmdb.Error as error:
            raise UserError(f"{folder}: expected an LMDB, but it cannot be opened: {error}") from error
        # Reading beyond the end of a mapped file kills the process.
        wanted = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        size = (folder / "data.mdb").stat().st_size
        if size < wanted:
            raise UserError(f"{folder}/data.mdb: expected {wanted} bytes, got {size}: it is cut off")
        _ENVIRONMENTS[folder.resolve()] = environment
    return environment


class LmdbDataset:
    """An LMDB in the release's layout, or the compact one, as samples with a ``scale``.

    Keys are listed, values read when asked for. Records that are none are left out with a `DataWarning`, and
    are in ``problems``. An LMDB whose conversion was cut off is refused.

    Args:
        folder: of the LMDB.
        split: "train" takes the records not marked as validation, "val" those that are, None all in key
            order.
        skeleton: joints of records that are not the release's. A record does not say how many it has: MPI and
            LEEDS have 16, which become the networks' 14 parts, FLIC 9.
        size: only the first so many.

    Raises:
        UserError: no LMDB, cut off, none of its records is one, or they are not the release's and there is
            no ``skeleton``.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str | None = None,
        skeleton: Skeleton | None = None,
        size: int | None = None,
    ) -> None:
        self._folder, self._joints = Path(folder), len(skeleton) if skeleton else None
        self.problems: list[Problem] = []
        self._environment = _open_shared(self._folder)
        keys = self._list(split)
        if not keys:
            wanted = {
                "val": " marked as validation, got none: the release marks nobody of LEEDS and FLIC. What "
                "the LMDB was made from has some held out; `cpm train --solver` trains without",
                "train": " not marked as validation, got none",
            }.get(split or "", ", got none")
            raise UserError(f"{folder}: wanted records{wanted}")
        self._keys = keys[:size]
        _, first = self._read(self._keys[0])
        self._name = first.dataset
        known = {"MPI": CPM14, "LEEDS": CPM14, "FLIC": FLIC9}.get(first.dataset, skeleton)
        if known is None:
            raise UserError(
                f"{folder}: records of {first.dataset} are not the release's (MPI, LEEDS, FLIC): wanted a "
                "skeleton.toml beside them, which names their joints"
            )
        self._skeleton = known

    def __getstate__(self) -> dict[str, Any]:
        """What a copy keeps, as for a worker process: all but the open LMDB."""
        return {name: value for name, value in vars(self).items() if name != "_environment"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._environment = _open_shared(self._folder)

    def _list(self, split: str | None) -> list[bytes]:
        """Keys of a split. Only the flag is looked at: values are views into the map, not copies."""
        keys, read = [], 0
        with self._begin(buffers=True) as transaction:
            self._compact = bytes(transaction.get(LAYOUT_KEY) or b"") == LAYOUT
            for key, value in transaction.cursor():
                if self._compact and not bytes(key[:1]).isdigit():
                    break  # the images follow
                read += 1
                try:
                    held_out = self._is_validation(bytes(key), value)
                except UserError as error:
                    name = self._name_of(bytes(key))
                    self.problems.append(Problem(name, str(error).removeprefix(f"{name}: ")))
                    continue
                if split is None or held_out == (split == "val"):
                    keys.append(bytes(key))
        refuse_unfinished(self._folder, read)
        warn_of(str(self._folder), read, self.problems)
        if read and len(self.problems) == read:
            raise UserError(str(self.problems[0]))
        return keys

    @contextmanager
    def _begin(self, buffers: bool = False) -> Iterator[Any]:
        import lmdb

        try:
            with self._environment.begin(buffers=buffers) as transaction:
                yield transaction
        except lmdb.Error as error:
            raise UserError(f"{self._folder}: damaged: {error}") from error

    def _is_validation(self, key: bytes, value: memoryview) -> bool:
        if self._compact:
            return parse_compact(bytes(value), self._name_of(key))[1].is_validation
        stored = stored_as_validation(value)
        return self._read(key)[1].is_validation if stored is None else stored

    def _name_of(self, key: bytes) -> str:
        return f"{self._folder} record {key.decode('ascii', 'replace')}"

    def _read(self, key: bytes) -> tuple[np.ndarray, PersonRecord]:
        with self._begin() as transaction:
            value = transaction.get(key) or b""
            if self._compact:
                return decode_compact(value, self._name_of(key), lambda other: transaction.get(other) or b"")
        return decode_record(value, self._name_of(key), self._joints)

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
    extent = extent_around(objpos, joints[0], visible[0], record.scale)
    return PoseSample(image, joints, visible, objpos, extent, record.name, record.scale)
