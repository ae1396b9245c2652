"""Scores of a solver prototxt's net: the validation that runs of presets have, on Caffe's layers."""

from __future__ import annotations

import torch

from cpm_repro.caffe.net import CaffeNet
from cpm_repro.data import PoseDataset
from cpm_repro.data.release import ReleaseAugment
from cpm_repro.errors import UserError
from cpm_repro.evaluation import ScoreTable
from cpm_repro.training.board import Board
from cpm_repro.training.caffe_stages import CaffeStages
from cpm_repro.training.sharding import cores_for
from cpm_repro.training.solver_plan import DataSettings
from cpm_repro.training.stopping import Stop
from cpm_repro.training.validate import predict_dataset, score_stages

_BATCH = 16


class SolverScores:
    """Scores every stage of a training net on held-out people, cropped as the data layer says.

    Args:
        net: the training net.
        data: what its data layer says.
        people: held out; at least one.

    Raises:
        UserError: nothing here can be scored, and why; training needs none of it.
    """

    def __init__(self, net: CaffeNet, data: DataSettings, people: PoseDataset) -> None:
        self.net, self.people, self.sigma = net, people, data.sigma_center
        self.augment = ReleaseAugment(data.augment, "exact")
        self.stages = CaffeStages(net, data)
        if people.skeleton.torso is None and len(people.skeleton) > 1:
            raise UserError(f"the skeleton of {people.name} names no torso, by which scores divide distances")
        shape = (1, self.stages.input_channels, data.augment.crop_size_y, data.augment.crop_size_x)
        with torch.no_grad(), net.still():
            made = self.stages(torch.zeros(shape, device=next(net.parameters()).device))
        if not made or any(maps.ndim != 4 or maps.shape[1] != self.stages.maps for maps in made):
            raise UserError(
                f"the losses of net {net.net_name!r} do not compare {self.stages.maps} belief maps"
            )

    def score(self, stop: Stop) -> list[ScoreTable]:
        """One table per stage.

        Raises:
            Stopped: ``stop`` was asked for on the way.
        """
        device = next(self.net.parameters()).device
        with cores_for(self.stages, device, _BATCH) as cores:
            predictions = predict_dataset(
                self.stages, self.people, self.augment, cores, _BATCH, stop=stop, sigma=self.sigma
            )
        return score_stages(predictions, self.people)

    def draw(self, board: Board, iteration: int) -> None:
        """The last update's gradients, and what the net believes."""
        board.gradients(iteration, self.net)
        stages = len(self.stages.tops)
        board.beliefs(iteration, self.stages, self.people, self.augment, stages, self.sigma)
