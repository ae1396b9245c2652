"""How much of a run is spent, and when it is scored on the way."""

from __future__ import annotations

from cpm_repro.config import TrainConfig


def spent(config: TrainConfig, iteration: int, seconds: float) -> float:
    """Share of the budget after so many updates and seconds: of iterations or minutes, which is further."""
    shares = []
    if config.iterations:
        shares.append(iteration / config.iterations)
    if config.minutes:
        shares.append(seconds / (60 * config.minutes))
    return max(shares)


def next_validation(every: float, last: float) -> float:
    """The multiple of ``every`` that follows the ``last`` validation; all are shares of the budget."""
    return every * (int(last / every + 1e-9) + 1)
