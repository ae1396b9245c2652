"""What an estimator can be told, checked without torch, whose import takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

from cpm_repro.config import unknown
from cpm_repro.errors import UserError

PRECISIONS = ("float32", "bf16")


def check_settings(scales: Sequence[float], precision: str, batch: int) -> tuple[float, ...]:
    """The scales, once; refuses settings that no estimator can work with, see :class:`PoseEstimator`.

    Raises:
        UserError: scales beyond any use, an unknown precision, an empty batch.
    """
    try:
        numbers = [] if isinstance(scales, str) else [float(scale) for scale in scales]
    except (TypeError, ValueError):  # 1.0, say, which goes in a list
        numbers = []
    if not numbers or not all(0.1 <= scale <= 10 for scale in numbers):
        got = ", ".join(f"{scale:g}" for scale in numbers) or f"no list of numbers: {scales!r}"
        raise UserError(f"scales: wanted one or more numbers, each from 0.1 to 10, got {got}")
    if precision not in PRECISIONS:
        raise UserError(unknown("precision", str(precision), list(PRECISIONS)))
    if isinstance(batch, bool) or not isinstance(batch, Integral) or batch < 1:
        raise UserError(f"batch: wanted a whole number of at least 1, got {batch!r}")
    return tuple(numbers)
