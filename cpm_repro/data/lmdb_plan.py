"""The note beside an LMDB of ours that says what is, or was, being written there."""

from __future__ import annotations

from pathlib import Path

from cpm_repro.errors import UserError
from cpm_repro.files import read_json

PLAN = "cpm_write_plan.json"


def refuse_unfinished(folder: Path, people: int) -> None:
    """Refuse an LMDB whose conversion was cut off; one from elsewhere has no note and is taken as it is.

    Args:
        folder: of the LMDB.
        people: how many records are there.

    Raises:
        UserError: fewer than were to be written, or the note is none.
    """
    if not (folder / PLAN).exists():
        return
    plan = read_json(folder / PLAN)
    wanted = plan.get("records") if isinstance(plan, dict) else None
    if not isinstance(wanted, int):
        raise UserError(f"{folder / PLAN}: wanted the note of `cpm data lmdb`, got something else")
    if people < wanted:
        raise UserError(
            f"{folder}: holds {people} of {wanted} records, for its conversion was cut off; "
            "the same `cpm data lmdb` again goes on with it"
        )
