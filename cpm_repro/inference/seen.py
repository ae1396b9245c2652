"""What an estimate starts from: a decoded image, and where the people in it are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpm_repro.errors import UserError
from cpm_repro.inference import places
from cpm_repro.inference.detector import PersonDetector
from cpm_repro.inference.images import as_bgr, read_photograph
from cpm_repro.inference.places import Box, Place, Point

Image = np.ndarray | str | Path
"""An array (H, W), (H, W, 3) or (H, W, 4), uint8 or uint16, or the path of an image file."""


@dataclass(frozen=True)
class Seen:
    """A decoded image, the file it came from, and where its people are.

    With ``one_person`` the places are those that one person may have: the surest of them is kept.
    """

    array: np.ndarray
    source: str
    places: list[Place]
    one_person: bool = False


@dataclass(frozen=True)
class Told:
    """What was said of where an image's people are, in one way of several; see `PoseEstimator.__call__`.

    Raises:
        ValueError: it was said in two ways. UserError: boxes or centres that are no list.
    """

    boxes: Sequence[Box] | None = None
    centers: Sequence[Point] | None = None
    heights: Sequence[float] | float | None = None
    whole_image: bool = False

    def __post_init__(self) -> None:
        if self.boxes is not None and self.centers is not None:
            raise ValueError("give either boxes or centers, got both")
        if self.whole_image and (self.boxes is not None or self.centers is not None):
            raise ValueError("whole_image takes one person to fill the image: give no boxes or centers")
        if self.heights is not None and self.centers is None:
            raise ValueError("heights go with centers, got heights alone")
        for name in ("boxes", "centers"):  # a generator would be empty from the second frame on
            if getattr(self, name) is not None:
                object.__setattr__(self, name, places.listed(name, getattr(self, name)))


def decoded(image: Image, *, rgb: bool = False) -> tuple[np.ndarray, str]:
    """(H, W, 3) uint8 BGR, and the name of the file; of an array, "".

    Raises:
        UserError: an image file that cannot be read.
        TypeError, ValueError: an array that is no image.
    """
    if isinstance(image, np.ndarray):
        return as_bgr(image, rgb=rgb), ""
    if not isinstance(image, str | Path):
        hint = ", which cv2.imread gives for a file that it cannot read" if image is None else ""
        raise TypeError(f"image: wanted a path or a numpy array, got {type(image).__name__}{hint}")
    return read_photograph(image), str(image)


def see(array: np.ndarray, source: str, told: Told, detector: PersonDetector | None, share: float) -> Seen:
    """Find the places of the people in a decoded image: as told or detected, else where one person may be.

    ``share`` is a person's of the detector's window, as there.

    Raises:
        UserError: places that cannot be, named after their ``source``.
    """
    size = array.shape[:2]
    try:
        if told.boxes is not None:
            return Seen(array, source, places.places_from_boxes(told.boxes, size))
        if told.centers is not None:
            return Seen(array, source, places.places_from_centers(told.centers, told.heights, size))
        if told.whole_image:
            return Seen(array, source, [places.whole_image(size)])
        if detector is not None:
            return Seen(array, source, detector(array, share=share))
    except UserError as error:
        raise UserError(f"{source}: {error}" if source else str(error)) from error
    return Seen(array, source, places.tried_places(size), one_person=True)
