"""A run's data at another place than when it was started: is it the same data?"""

from __future__ import annotations

from pathlib import Path

from cpm_repro.config import TrainConfig
from cpm_repro.data import PoseDataset, is_mixed
from cpm_repro.errors import UserError
from cpm_repro.training.checkpoint import Found
from cpm_repro.training.start import open_people


def open_people_of(config: TrainConfig, found: Found | None) -> tuple[PoseDataset, PoseDataset]:
    """`open_people` for a run that begins (None) or goes on from ``found``, whose data may have moved.

    Data at another place are taken for the run's if they have as many people to train on and the same parts
    in the same order: the number decides the order of batches. Mixed and synthetic ones are at no one place.

    Raises:
        UserError: what `open_people` refuses; other data than the run was started with, or the run's data are
            no longer where they were.
    """
    if found is None:
        return open_people(config)
    before = found.checkpoint.config.data
    one_place = not any(spec == "synthetic" or is_mixed(spec) for spec in (before, config.data))
    if config.data == before and one_place and not Path(before).exists():
        raise UserError(
            f"{before}: the run of {found.path} was started with these data, which are not there: give "
            f"--data with their new place"
        )
    train, held_out = open_people(config)
    if config.data == before:
        return train, held_out
    skeleton = found.checkpoint.skeleton
    if not one_place:  # of a mix the number of people does not tell whose turn is when
        raise UserError(
            f"{found.path} belongs to another run: wanted data = {before}, got {config.data}; resume with "
            f"the data it was started with, or train into another folder"
        )
    wanted = [_people(found.checkpoint.people), *([list(skeleton.parts)] if skeleton else [])]
    got = [_people(len(train)), *([list(train.skeleton.parts)] if skeleton else [])]
    for one, other in zip(wanted, got, strict=True):
        if one != other:
            raise UserError(
                f"{config.data} is not the data of the run of {found.path}, {before}: wanted {one}, got "
                f"{other}; resume with the data it was started with, or train into another folder"
            )
    return train, held_out


def _people(count: int | None) -> str:
    return "a number of people that is not known" if count is None else f"{count} people to train on"
