"""Verdicts of studies: what ``cpm study`` writes as ``verdict.json`` and the checklist takes as proofs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cpm_repro.checklist.evidence import (
    Evidence,
    Origin,
    find_claim,
    new_evidence,
    read_evidence,
    write_evidence,
)
from cpm_repro.errors import UserError
from cpm_repro.files import read_json, write_json

HOLDS, DOES_NOT_HOLD, UNDECIDED = "holds", "does not hold", "undecided"
VALUES = (HOLDS, DOES_NOT_HOLD, UNDECIDED)
FORMAT = "cpm_repro verdict 1"
FILE = "verdict.json"


@dataclass(frozen=True)
class Verdict:
    """What a study says of one claim, by a rule that was stated before its runs.

    ``reason`` is one sentence with the numbers; of an undecided claim it ends with the budget that would
    decide. ``numbers`` are what the rule was applied to.
    """

    claim: str
    value: str
    rule: str
    reason: str
    numbers: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.value not in VALUES:
            raise ValueError(f"verdict of {self.claim}: wanted one of {', '.join(VALUES)}, got {self.value}")


@dataclass(frozen=True)
class StudyVerdict:
    """All verdicts of one study, and what they were made from."""

    study: str
    paragraph: str
    setting: str  # data, network, budget and seeds in words
    command: str
    verdicts: tuple[Verdict, ...]


def write_verdict(path: Path, found: StudyVerdict) -> None:
    """Write ``path`` with, for every claim, a proof as the checklist keeps them."""
    origin = Origin.here()
    proofs = {
        verdict.claim: asdict(
            new_evidence(
                find_claim(verdict.claim),
                verdict.value,
                f"{verdict.reason} ({found.setting})",
                found.command,
                origin,
            )
        )
        for verdict in found.verdicts
    }
    write_json(path, {"format": FORMAT, **asdict(found), "proofs": proofs})


def read_verdict(path: Path) -> StudyVerdict:
    """One ``verdict.json``.

    Raises:
        UserError: no such file, or not what a study writes.
    """
    content = _content(path)
    try:
        verdicts = tuple(Verdict(**verdict) for verdict in content["verdicts"])
        words = {name: str(content[name]) for name in ("study", "paragraph", "setting", "command")}
        return StudyVerdict(**words, verdicts=verdicts)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a study's verdict ({error})") from error


def take_verdicts(folder: Path, studies: Path) -> list[str]:
    """Make the proofs of the studies below ``studies`` the checklist's own; newer ones win.

    Looked at are ``studies/verdict.json`` and ``studies/*/verdict.json``.

    Returns:
        The claims whose proofs were taken, in order.

    Raises:
        UserError: nothing there, or a file that no study wrote.
    """
    paths = [path for path in (studies / FILE, *sorted(studies.glob(f"*/{FILE}"))) if path.is_file()]
    if not paths:
        raise UserError(f"{studies}: wanted a folder that cpm study wrote, found no {FILE} in or below it")
    taken = []
    for evidence in _newest(path_proofs for path in paths for path_proofs in _proofs(path)):
        old = read_evidence(folder, find_claim(evidence.claim))
        if old is None or old.date < evidence.date:
            write_evidence(folder, evidence)
            taken.append(evidence.claim)
    return taken


def _newest(proofs: Iterable[Evidence]) -> Sequence[Evidence]:
    newest: dict[str, Evidence] = {}
    for proof in proofs:
        if proof.claim not in newest or newest[proof.claim].date < proof.date:
            newest[proof.claim] = proof
    return list(newest.values())


def _proofs(path: Path) -> list[Evidence]:
    found = read_verdict(path)
    values = {verdict.claim: verdict.value for verdict in found.verdicts}
    try:
        proofs = [Evidence(**proof) for proof in _content(path)["proofs"].values()]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a study's verdict ({error})") from error
    if {proof.claim: proof.value for proof in proofs} != values:
        raise UserError(f"{path}: its proofs are not of its verdicts")
    return proofs


def _content(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: wanted a {FORMAT!r} file, got something else")
    return content
