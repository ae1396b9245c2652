"""The folder of one run: config, metrics, environment, checkpoints, pictures."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpm_repro.config import TrainConfig, to_dict
from cpm_repro.environment import environment
from cpm_repro.errors import EnvironmentFailure, UserError
from cpm_repro.files import atomic_write, make_folder, parse_json, read_json, remove_unfinished, write_json

try:
    import fcntl
except ImportError:  # not on Windows, where nobody is kept out
    fcntl = None  # type: ignore[assignment]


class RunFolder:
    """``runs/<name>/`` with ``config.json``, ``metrics.jsonl``, ``environment.json``, ``checkpoints/``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: weakref.finalize[[int], RunFolder] | None = None

    @property
    def last(self) -> Path:
        """Checkpoint of the newest state saved."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def previous(self) -> Path:
        """The state saved before the newest."""
        return self.path / "checkpoints" / "previous.pt"

    @property
    def best(self) -> Path:
        """Checkpoint of the best validation score."""
        return self.path / "checkpoints" / "best.pt"

    @property
    def checkpoints(self) -> list[Path]:
        """All of them, in the order in which a run would go on from them."""
        return [self.last, self.previous, self.best]

    @property
    def metrics(self) -> Path:
        """One JSON object a line: ``train`` and ``validation`` records."""
        return self.path / "metrics.jsonl"

    @property
    def config(self) -> Path:
        """The configuration that a run was started with; runs of solver prototxts have none."""
        return self.path / "config.json"

    @property
    def gradients(self) -> Path:
        """One JSON object per measured update, where ``record_gradients`` asked for it."""
        return self.path / "gradients.jsonl"

    def enter(self) -> None:
        """Make the folder, and keep other processes from training into it until :meth:`leave`.

        The system gives it free when this process ends, however it ends. File systems that cannot lock a
        folder keep nobody out.

        Raises:
            UserError: another process trains into it.
            EnvironmentFailure: it cannot be made.
        """
        make_folder(self.path)
        if fcntl is None:
            return
        try:
            handle = os.open(self.path, os.O_RDONLY)
        except OSError:  # a folder that cannot be looked into
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise UserError(
                f"{self.path}: another process is training into this folder: wait for its end, or choose "
                f"another --out"
            ) from error
        except OSError:
            os.close(handle)
        else:
            self._lock = weakref.finalize(self, os.close, handle)

    def leave(self) -> None:
        """Let others train into the folder; may be called twice."""
        if self._lock is not None:
            self._lock()

    def start(self, config: TrainConfig, *, resume: bool) -> None:
        """Enter the folder; one that already holds a run is only entered to resume one of a preset."""
        if not resume and (self.last.exists() or self.previous.exists() or self.metrics.exists()):
            raise UserError(f"{self.path} already holds a run: choose another --out, or go on with --resume")
        if self.metrics.exists() and not (self.config.exists() or self.last.exists()):
            raise UserError(
                f"{self.path} holds a run of a solver prototxt: choose another --out, or go on with --solver "
                f"and --snapshot"
            )
        self.enter()
        if resume:
            for folder in (self.path, self.last.parent):
                remove_unfinished(folder)
        write_json(self.config, to_dict(config))
        write_json(self.path / "environment.json", environment())

    def environment(self) -> dict[str, Any]:
        """What :func:`environment` said when the run was started, or last resumed."""
        values: dict[str, Any] = read_json(self.path / "environment.json")
        return values

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record to the metrics. A half-written last line (after a kill) is dropped on resume."""
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise EnvironmentFailure(f"cannot write {self.metrics}: {error.strerror or error}") from error

    def rewind(self, iteration: int, *, keep_validation: bool = True) -> None:
        """Forget metrics of updates after ``iteration``: the resumed run makes them again.

        Without ``keep_validation`` scores of ``iteration`` itself are forgotten too. No file is made where
        there is none: it would say that the folder holds a run.
        """
        if not self.metrics.exists():
            return
        kept = [
            record
            for record in self.records()
            if record["iteration"] < iteration
            or (record["iteration"] == iteration and (keep_validation or record["kind"] == "train"))
        ]
        with atomic_write(self.metrics, "w") as file:
            file.writelines(json.dumps(record) + "\n" for record in kept)

    def records(self) -> list[dict[str, Any]]:
        """All whole records written so far.

        Raises:
            UserError: something else than a file of records.
        """
        if not self.metrics.exists():
            return []
        try:
            lines = self.metrics.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise UserError(f"{self.metrics}: cannot be read: {error.strerror}") from error
        records = []
        for number, line in enumerate(lines, start=1):
            try:
                record = parse_json(line)
            except ValueError:
                break  # the line a kill cut short; nothing follows it
            if not isinstance(record, dict) or not {"kind", "iteration"} <= record.keys():
                raise UserError(f"{self.metrics}, line {number}: wanted a record that cpm train wrote")
            records.append(record)
        return records
