"""How much of a crop a person fills, and whether people fit into it: by the settings alone."""

from __future__ import annotations

from cpm_repro.config.settings import FULL_CROP, AugmentConfig

PERSON_HEIGHT = 200
"""Height in pixels of a standing person whose scale is 1 (spec `data.md`)."""


def person_share(augment: AugmentConfig) -> float:
    """Share of the crop's side that a person of scale multiplier 1 fills, of whatever method.

    It is that of the longer side of the box under "box"; of the height, 200 px times the scale, under the
    release's, which bring everybody to one size in pixels.
    """
    if augment.method == "box":
        return augment.fill
    return PERSON_HEIGHT * augment.target_dist / augment.crop


def cut_off(augment: AugmentConfig) -> str | None:
    """What is wrong with a crop that people do not fit into, and the setting that helps; None: they fit.

    By the release's methods a person has one size in pixels, that of its own crop of 368, whatever
    ``augment.crop`` is: a smaller one sees less of them, and no number of the run would tell.
    """
    scales = augment.scale_min, augment.scale_max
    share = person_share(augment)
    if augment.method == "box":
        return _said(share, *scales, "lower augment.fill, the share of the joints' box")
    height = PERSON_HEIGHT * augment.target_dist
    dist = augment.target_dist * augment.crop / FULL_CROP
    return _said(
        share,
        *scales,
        f"augment.method={augment.method} makes them {height:.0f} px high whatever augment.crop is "
        f"({augment.crop} px, the release's is {FULL_CROP}); augment.target_dist={dist:.3g} keeps the share "
        f"that they fill of {FULL_CROP} px, and augment.method=box takes one of the crop",
    )


def cut_off_by_layer(crop: int, target_dist: float, scale_min: float, scale_max: float) -> str | None:
    """The same for a training net's data layer, whose shorter side is ``crop``."""
    height = PERSON_HEIGHT * target_dist
    why = f"target_dist {target_dist:g} makes them {height:.0f} px high in the data layer's crop of {crop} px"
    return _said(height / crop, scale_min, scale_max, why)


def _said(share: float, scale_min: float, scale_max: float, why: str) -> str | None:
    """One line if the largest of people who fill ``share`` of the crop's side do not fit."""
    least, most = share * scale_min, share * scale_max
    if most <= 1:
        return None
    return (
        f"people are cut off: a standing person fills {share:.0%} of the crop's side, "
        f"{least:.0%} to {most:.0%} between scale_min and scale_max: {why}"
    )
