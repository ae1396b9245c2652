"""Training the person detector: people of a pose data set as single points.

How the released detector was trained was never published, and the released data layer cannot make its label.
This is our own choice: the one belief map has a Gaussian at the centre of everybody in the crop, and every
stage is compared with it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cpm_repro.data import PoseDataset
from cpm_repro.data.sample import PoseSample, center_and_extent
from cpm_repro.skeleton import Skeleton, Visibility

PERSON = Skeleton("person", ("person",), (), (), groups=(("Person", (0,)),))
"""A body of one part, its centre."""


class PersonCentres:
    """A pose data set whose people are their centres: of the annotated one as given, of others the middle of
    the labelled joints' box. People without a labelled joint are not there."""

    def __init__(self, dataset: PoseDataset) -> None:
        self._dataset = dataset
        self.name = dataset.name
        self.skeleton = PERSON

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> PoseSample:
        sample = self._dataset[index]
        people = zip(sample.joints[1:], sample.visible[1:], strict=True)
        centres = np.stack([sample.center, *(center_and_extent(j, v)[0] for j, v in people)])
        known = np.isfinite(centres).all(axis=1)
        visible = np.where(known, Visibility.VISIBLE, Visibility.CROPPED).astype(np.uint8)
        joints = np.where(known[:, None], centres, 0).astype(np.float32)
        return replace(sample, joints=joints[:, None], visible=visible[:, None])
