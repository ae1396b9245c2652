"""Two configurations of a run that goes on: what may differ between them, and what that does."""

from __future__ import annotations

from cpm_repro.config.settings import TrainConfig, flat, to_dict

_FREE_ON_RESUME = (
    *("data", "iterations", "minutes", "workers", "checkpoint_", "validate_", "record_"),
    *("solver.accumulate", "solver.recompute", "solver.compile"),
)


def first_difference(old: TrainConfig, new: TrainConfig) -> str | None:
    """Name and values of the first setting that makes ``new`` another run than ``old``; None: the same run.

    Workers and when to save and validate do not touch what an update does. Passes, recomputation and
    compilation leave it as it is up to the order of sums and what dropout draws, and a run that does not fit
    its memory needs them. The budget may change although the schedules ``cosine`` and ``linear`` follow it
    (:func:`schedule_change` says so); not under a scheme of several phases, whose ends and beginnings it
    sets. Whether data at another place are the run's data is not seen here.
    """
    flat_old, flat_new = flat(to_dict(old)), flat(to_dict(new))
    phased = old.scheme.startswith("stage-wise")
    for name, value in flat_old.items():
        free = name.startswith(_FREE_ON_RESUME) and not (phased and name in ("iterations", "minutes"))
        if flat_new[name] != value and not free:
            return f"{name} = {value}, got {flat_new[name]}"
    return None


def schedule_change(old: TrainConfig, new: TrainConfig) -> str | None:
    """What another budget does to the rates of a run that goes on; None: nothing."""
    budgets = [_budget(old), _budget(new)]
    if budgets[0] == budgets[1] or new.solver.schedule == "step":
        return None
    return (
        f"the budget was {budgets[0]} and is {budgets[1]}: the schedule {new.solver.schedule} follows it, "
        f"and the rates of the updates to come are others than they would have been"
    )


def _budget(config: TrainConfig) -> str:
    iterations = [] if config.iterations is None else [f"{config.iterations} iterations"]
    return " or ".join(iterations + ([] if config.minutes is None else [f"{config.minutes:g} minutes"]))
