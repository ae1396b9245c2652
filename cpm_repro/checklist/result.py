"""What is known about a claim."""

from __future__ import annotations

from dataclasses import dataclass

from cpm_repro.checklist.claims import Claim, Value
from cpm_repro.checklist.evidence import PROOFS, Evidence

REPRODUCED, DIFFERS, NOT_RUN = "reproduced", "differs", "not run"


@dataclass(frozen=True)
class Result:
    """What is known about one claim."""

    claim: Claim
    status: str  # reproduced, differs or not run
    value: Value | None = None
    difference: str = ""
    evidence: Evidence | None = None
    stale: bool = False
    missing: tuple[str, ...] = ()

    @property
    def proof(self) -> str:
        """Path of the proof relative to the checklist's folder; empty without one."""
        return f"{PROOFS}/{self.claim.id}.json" if self.evidence else ""
