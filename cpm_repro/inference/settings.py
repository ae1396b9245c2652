"""What an estimator can be told, checked without torch, whose import takes seconds."""

from __future__ import annotations

from collections.abc import Sequence

from cpm_repro.config import unknown
from cpm_repro.errors import UserError

PRECISIONS = ("float32", "bf16")


def check_settings(scales: Sequence[float], precision: str, batch: int) -> None:
    """Refuse settings that no estimator can work with; see :class:`PoseEstimator`.

    Raises:
        UserError: scales beyond any use, an unknown precision, an empty batch.
    """
    if not scales or not all(0.1 <= scale <= 10 for scale in scales):
        got = ", ".join(f"{scale:g}" for scale in scales) or "none"
        raise UserError(f"scales: wanted at least one number from 0.1 to 10, got {got}")
    if precision not in PRECISIONS:
        raise UserError(unknown("precision", precision, list(PRECISIONS)))
    if batch < 1:
        raise UserError(f"batch: wanted at least 1, got {batch}")
