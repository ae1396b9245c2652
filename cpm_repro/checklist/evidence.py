"""Proofs of claims: one JSON file per claim, with what was measured, when, by which code, on what machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import cpm_repro
from cpm_repro.checklist.claims import Claim, Value, load_claims
from cpm_repro.config import unknown
from cpm_repro.environment import environment
from cpm_repro.errors import UserError
from cpm_repro.evaluation.evaluate import rule_text
from cpm_repro.evaluation.protocols import find_protocol
from cpm_repro.files import read_json, write_json

PROOFS = "proofs"
"""Folder of the proofs below the checklist's own."""


@dataclass(frozen=True)
class Evidence:
    """What one run found out about one claim. Whether that meets the claim is judged whenever it is read."""

    claim: str
    value: Value
    detail: str
    date: str  # ISO 8601, UTC
    commit: str | None
    hardware: str
    digest: str  # of the files the claim depends on
    command: str


def record_evidence(
    folder: str | Path, claim_id: str, value: Value, *, detail: str = "", command: str = ""
) -> Path:
    """Write the proof of a claim that another command (a study, a benchmark, a run) has measured.

    ``folder`` is the checklist's; returns the file. A study's value is "holds", "does not hold" or
    "undecided".

    Raises:
        UserError: no claim of that id.
        EnvironmentFailure: the folder cannot be written.
    """
    return write_evidence(Path(folder), new_evidence(find_claim(claim_id), value, detail, command))


def record_scores(folder: str | Path, claim_id: str, scores: str | Path, row: str = "total") -> Path:
    """Write the proof of a score claim from the ``scores.json`` that ``cpm eval`` writes.

    ``row`` is "total", "mean_of_joints" or a row of the table ("Elb"). Of several tables (stages) the last
    counts. People and protocol must be the claim's, threshold, normaliser and sides the protocol's own.

    Raises:
        UserError: no such claim or file, or scores made by another rule or of other people.
    """
    claim = find_claim(claim_id)
    path = Path(scores)
    content = read_json(path)
    tables = content if isinstance(content, list) else [content]
    table = tables[-1] if tables and isinstance(tables[-1], dict) else {}
    if table.get("protocol") != claim.protocol or not claim.protocol:
        raise UserError(f"{path}: claim {claim.id} is about {claim.protocol}, got {table.get('protocol')}")
    if claim.people and table.get("people") != claim.people:
        raise UserError(f"{path}: claim {claim.id} is about {claim.people} people, got {table.get('people')}")
    protocol = find_protocol(claim.protocol)
    for name, wanted in (("threshold", protocol.threshold), ("rule", rule_text(protocol))):
        if table.get(name) != wanted:
            raise UserError(f"{path}: claim {claim.id} is about {name} {wanted}, got {table.get(name)}")
    value = table.get(row, table.get("rows", {}).get(row))
    if not isinstance(value, (int, float)):
        raise UserError(f"{path}: no score {row!r} in it")
    detail = f"{table['metric']}@{table['threshold']:g}, {table['rule']}; {table['people']} people"
    return write_evidence(Path(folder), new_evidence(claim, float(value), detail, claim.command))


def record_assignment(folder: str | Path, text: str) -> Path:
    """:func:`record_scores` from a command line's ``ID=SCORES.JSON`` or ``ID=SCORES.JSON:ROW``."""
    claim_id, equals, rest = text.partition("=")
    if not equals or not rest:
        raise UserError(f"--record wants ID=SCORES.JSON or ID=SCORES.JSON:ROW, got {text!r}")
    path, colon, row = rest.rpartition(":")
    if not colon or rest.endswith(".json"):
        path, row = rest, ""
    return record_scores(folder, claim_id, path, row or "total")


@dataclass(frozen=True)
class Origin:
    """Which code on which machine makes a proof."""

    commit: str | None
    hardware: str

    @classmethod
    def here(cls) -> Origin:
        """This checkout and this machine; asks git, so once per run."""
        here = environment()
        return cls(here["commit"], ", ".join(filter(None, (here["processor"], here["gpu"]))))


def new_evidence(
    claim: Claim, value: Value, detail: str = "", command: str = "", origin: Origin | None = None
) -> Evidence:
    """Evidence of now."""
    origin = origin or Origin.here()
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Evidence(
        claim.id, value, detail, now, origin.commit, origin.hardware, digest(claim.depends), command
    )


def find_claim(claim_id: str) -> Claim:
    """The claim of that id; a UserError names the nearest."""
    claims = {claim.id: claim for claim in load_claims()}
    if claim_id not in claims:
        raise UserError(unknown("claim", claim_id, list(claims)))
    return claims[claim_id]


def write_evidence(folder: Path, evidence: Evidence) -> Path:
    """Write a proof below ``folder``; returns its path."""
    path = folder / PROOFS / f"{evidence.claim}.json"
    write_json(path, asdict(evidence))
    return path


def read_evidence(folder: Path, claim: Claim) -> Evidence | None:
    """The proof of ``claim`` below ``folder``, if there is one."""
    path = folder / PROOFS / f"{claim.id}.json"
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        evidence = Evidence(**content)
    except TypeError as error:
        raise UserError(f"{path}: not a proof as the checklist writes them: {error}") from error
    if evidence.claim != claim.id:
        raise UserError(f"{path}: wanted a proof of {claim.id}, got one of {evidence.claim}")
    return evidence


def digest(depends: Iterable[str]) -> str:
    """SHA-256 over the named files and folders of the package, path by path, in order of name.

    Contents are hashed, not commits: it tells a changed file in any checkout, also one with local changes.
    """
    root = Path(cpm_repro.__file__).parent
    total = hashlib.sha256()
    for name in sorted(depends):
        place = root / name
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        for file in files:
            total.update(str(file.relative_to(root)).encode())
            total.update(file.read_bytes() if file.is_file() else b"absent")
    return total.hexdigest()
