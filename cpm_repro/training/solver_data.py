"""The people of a solver prototxt's run, and the blobs that its data layer makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cpm_repro import ops
from cpm_repro.config import PERSON_HEIGHT
from cpm_repro.data import Batch, PoseDataset, Readable, open_dataset
from cpm_repro.data.sample import PoseSample
from cpm_repro.errors import UserError
from cpm_repro.inference.network_input import network_input
from cpm_repro.skeleton import Visibility
from cpm_repro.training.solver_plan import DataSettings, SolverPlan


def source_of(plan: SolverPlan, given: str | None) -> str:
    """The data set that is trained on: what was ``given``, or what the data layer names.

    Raises:
        UserError: nothing was given and what the layer names is not there.
    """
    source = given or str(plan.find(plan.data.source))
    if given is None and not Path(source).exists():
        raise UserError(f"{plan.path}: its data layer's source {plan.data.source} is not there: give --data")
    return source


def open_people(settings: DataSettings, source: str) -> PoseDataset:
    """The people of ``source`` that are trained on, all with a scale.

    Raises:
        UserError: other parts than the data layer's, or fewer people than a batch.
    """
    dataset = open_dataset(source, "train")
    if len(dataset.skeleton) != settings.parts:
        raise UserError(
            f"{source} labels {len(dataset.skeleton)} parts, the data layer wanted num_parts {settings.parts}"
        )
    if len(dataset) < settings.batch:
        raise UserError(f"{source}: wanted at least one batch of {settings.batch} people, got {len(dataset)}")
    return scaled(dataset)


def scaled(dataset: PoseDataset) -> PoseDataset:
    """``dataset``, with scales by the joints' boxes where its people have none.

    Raises:
        UserError: no picture can be read.
    """
    return dataset if Readable(dataset).first(range(len(dataset))).scale > 0 else _Scaled(dataset)


class _Scaled:
    """A data set whose people have no scale, by which the data layer crops: the joints' box over 200 px."""

    def __init__(self, dataset: PoseDataset) -> None:
        self._dataset = dataset
        self.name = f"{dataset.name} (no scales: taken from the joints' boxes)"
        self.skeleton = dataset.skeleton

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> PoseSample:
        sample = self._dataset[index]
        return sample if sample.scale > 0 else replace(sample, scale=sample.extent / PERSON_HEIGHT)


def batch_blobs(batch: Batch, settings: DataSettings, device: torch.device) -> dict[str, Tensor]:
    """The data layer's tops: data (N, 4, H, W) and label (N, 2 * (parts + 1), H / stride, W / stride)."""
    image, center = batch.image.to(device), batch.center.to(device)
    height, width = image.shape[1:3]
    data = network_input(image, center, sigma=settings.sigma_center)
    label = ops.belief_maps(
        batch.joints.to(device),
        batch.visible.to(device),
        grid=(height // settings.stride, width // settings.stride),
        stride=settings.stride,
        sigma=settings.sigma,
    )
    return {settings.tops[0]: data, settings.tops[1]: label}


def nobody(settings: DataSettings) -> Batch:
    """A batch of one empty crop, for what is measured before the first update."""
    height, width = settings.augment.crop_size_y, settings.augment.crop_size_x
    return Batch(
        image=torch.zeros((1, height, width, 3), dtype=torch.uint8),
        joints=torch.zeros((1, 1, settings.parts, 2)),
        visible=torch.full((1, 1, settings.parts), Visibility.CROPPED, dtype=torch.uint8),
        center=torch.zeros((1, 2)),
    )
