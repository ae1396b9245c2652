"""``cpm checklist``: check what can be checked here, keep the proofs, say what the rest is missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from cpm_repro.checklist.claims import Claim, Value, judge, load_claims
from cpm_repro.checklist.context import Context
from cpm_repro.checklist.evidence import (
    Evidence,
    Origin,
    digest,
    find_claim,
    new_evidence,
    read_evidence,
    write_evidence,
)
from cpm_repro.checklist.report import summary, write_report
from cpm_repro.checklist.result import DIFFERS, NOT_RUN, REPRODUCED, Result
from cpm_repro.checklist.verdicts import UNDECIDED, take_verdicts
from cpm_repro.errors import UserError


def run_checklist(
    folder: str | Path,
    data: str | Path | None = None,
    weights: str | Path | None = None,
    *,
    golden: str | Path | None = None,
    only: Sequence[str] = (),
    studies: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> list[Result]:
    """Check the claims and write ``CHECKLIST.md``, ``CHECKLIST.html``, ``CHECKLIST.json`` and the proofs.

    A claim whose needs are met is measured now. One whose needs are not met keeps the proof of an earlier
    run in ``folder``, shown as stale when a file it depends on has changed since; without one it was not run.

    Args:
        folder: of the checklist; made if absent.
        data: folder that holds ``published_predictions/`` (default: the environment variable CPM_DATA).
        weights: folder of the released ``.caffemodel`` files.
        golden: folder of golden arrays (default: CPM_GOLDEN).
        only: ids, or beginnings of ids, of the claims to measure anew; all others keep their proofs.
        studies: folder that ``cpm study`` wrote; its verdicts become proofs unless there are newer ones.
        say: gets one line per claim that is measured.

    Raises:
        UserError: a folder given does not exist, ``only`` names no claim, or a proof that cannot be read.
        EnvironmentFailure: ``folder`` cannot be written.
    """
    folder = Path(folder)
    context = Context(
        _folder("--data", data, "CPM_DATA"),
        _folder("--golden", golden, "CPM_GOLDEN"),
        _folder("--weights", weights),
    )
    chosen_studies = _folder("--studies", studies)
    if chosen_studies is not None:
        taken = take_verdicts(folder, chosen_studies)
        say(f"proofs taken from {chosen_studies}: {', '.join(taken) or 'none newer'}")
    claims = load_claims()
    for name in only:
        if not any(claim.id.startswith(name) for claim in claims):
            find_claim(name)  # refuses it, naming the nearest
    origin = Origin.here()
    results = []
    for claim in claims:
        chosen = not only or any(claim.id.startswith(name) for name in only)
        result = _examine(folder, claim, context, origin, measure=chosen)
        if chosen and claim.check and not result.missing:
            say(f"{claim.id}: {result.status} ({_shown(result.value)})")
        results.append(result)
    write_report(folder, results)
    say(f"{summary(results)} {folder / 'CHECKLIST.md'}")
    return results


def _examine(folder: Path, claim: Claim, context: Context, origin: Origin, *, measure: bool) -> Result:
    """Measure the claim if it can and shall be, else take the proof that is there."""
    missing = context.missing(claim.needs)
    if claim.check and measure and not missing:
        value = measured(claim, context)
        evidence = new_evidence(claim, value, command=claim.command, origin=origin)
        write_evidence(folder, evidence)
        return _judged(claim, evidence, stale=False)
    found = read_evidence(folder, claim)
    if found is None:
        return Result(claim, NOT_RUN, missing=tuple(missing) or ("a run",))
    return _judged(claim, found, stale=found.digest != digest(claim.depends))


def measured(claim: Claim, context: Context) -> Value:
    """Run the claim's check."""
    arguments = dict(claim.check)
    return _checks()[arguments.pop("do")](context, **arguments)


def _judged(claim: Claim, evidence: Evidence, *, stale: bool) -> Result:
    if evidence.value == UNDECIDED:
        missing = (f"a larger budget: {evidence.detail or 'the last run could not tell'}",)
        return Result(claim, NOT_RUN, evidence.value, "", evidence, stale, missing)
    meets, difference = judge(claim, evidence.value)
    return Result(claim, REPRODUCED if meets else DIFFERS, evidence.value, difference, evidence, stale)


def _checks() -> dict[str, Callable[..., Value]]:
    """Every public function of the check modules, by name. To measure takes torch, a refusal does not."""
    from cpm_repro.checklist import (
        checks_data,
        checks_network,
        checks_runtime,
        checks_scores,
        checks_training,
    )

    modules = (checks_data, checks_network, checks_training, checks_scores, checks_runtime)
    return {
        name: function
        for module in modules
        for name, function in vars(module).items()
        if callable(function) and not name.startswith("_") and function.__module__ == module.__name__
    }


def _folder(option: str, given: str | Path | None, variable: str = "") -> Path | None:
    given = given if given is not None else os.environ.get(variable)
    if given is None:
        return None
    if not Path(given).is_dir():
        raise UserError(f"{option}: wanted a folder, got {given}, which is not one")
    return Path(given)


def _shown(value: Value | None) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
