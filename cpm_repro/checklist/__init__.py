"""The paper's and the release's claims as data, and the command that verifies what can be verified here."""

from cpm_repro.checklist.claims import Claim, load_claims
from cpm_repro.checklist.evidence import Evidence, record_assignment, record_evidence, record_scores
from cpm_repro.checklist.result import Result
from cpm_repro.checklist.run import run_checklist

__all__ = [
    "Claim",
    "Evidence",
    "Result",
    "load_claims",
    "record_assignment",
    "record_evidence",
    "record_scores",
    "run_checklist",
]
