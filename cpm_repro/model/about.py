"""What must be known of weights beside their network to use them: the crop they saw, what the parts are."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from cpm_repro.config import AugmentConfig
from cpm_repro.errors import UserError
from cpm_repro.files import parse_json
from cpm_repro.skeleton import Skeleton


@dataclass(frozen=True)
class About:
    """How weights were trained, as far as running them depends on it."""

    augment: AugmentConfig  # its crop, and of which size people are in it
    trained_on: str  # name or path of the training data
    skeleton: Skeleton | None  # None in files older than the field


def about_to_json(about: About) -> str:
    """One line of JSON, for a file's metadata."""
    skeleton = about.skeleton.to_dict() if about.skeleton else None
    values = {"augment": dataclasses.asdict(about.augment), "trained_on": about.trained_on}
    return json.dumps({**values, "skeleton": skeleton})


def about_from_json(text: str) -> About:
    """The inverse of :func:`about_to_json`.

    Raises:
        UserError: no JSON, or other values than were written.
    """
    try:
        values = parse_json(text)
        augment = AugmentConfig(**values["augment"])
        crop, fill, dist = int(augment.crop), float(augment.fill), float(augment.target_dist)
        if crop < 8 or crop > 4096 or not 0 < fill <= 2 or not 0 < dist <= 1000:
            raise ValueError(f"crop {crop}, fill {fill}, target_dist {dist}")
        skeleton = values["skeleton"]
        return About(
            dataclasses.replace(augment, crop=crop, fill=fill, target_dist=dist),
            str(values["trained_on"]),
            None if skeleton is None else Skeleton.from_dict(skeleton),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"what it says of its training cannot be used ({error})") from error
