"""The studies' names, for those who need no more of them than that: everything else imports torch."""

from __future__ import annotations

from collections.abc import Sequence

from cpm_repro.config import unknown
from cpm_repro.errors import UserError

STUDY_NAMES = ("stages", "supervision", "receptive-field", "schemes", "precision", "sensitivity")
"""In the order they are run. The study called ``receptive-field`` is ``STUDY`` of ``receptive_field.py``."""

ALL = "all"


def chosen_names(wanted: Sequence[str]) -> list[str]:
    """The studies asked for, ``all`` among them meaning every one, in the order they are run.

    Raises:
        UserError: an unknown name.
    """
    known = [*STUDY_NAMES, ALL]
    for name in wanted:
        if name not in known:
            raise UserError(unknown("study", name, known))
    return [name for name in STUDY_NAMES if ALL in wanted or name in wanted]
