"""Validation: every stage's predictions for a data set's held-out people, scored."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from cpm_repro.config import AugmentConfig
from cpm_repro.data import PoseDataset, ValBatch, val_batches
from cpm_repro.data.release import ReleaseAugment
from cpm_repro.evaluation import ScoreTable, ScoreWarning, evaluate
from cpm_repro.inference.decode import peaks, to_image
from cpm_repro.inference.network_input import network_input
from cpm_repro.model import PoseMachine
from cpm_repro.skeleton import Visibility
from cpm_repro.training.ranks import Ranks
from cpm_repro.training.sharding import Cores
from cpm_repro.training.stopping import Stop, Stopped, going_on

if TYPE_CHECKING:  # the Caffe room is heavier than a run that does not need it
    from cpm_repro.training.caffe_stages import CaffeStages

PROTOCOL = "lspet-pck"


@dataclass(frozen=True)
class Predictions:
    """What each stage said about M people, beside the truth; image pixels, 0-based."""

    keypoints: np.ndarray  # (stages, M, K, 2) float64
    scores: np.ndarray  # (stages, M, K) float32
    truth: np.ndarray  # (M, K, 2) float64
    labelled: np.ndarray  # (M, K) bool
    extent: np.ndarray  # (M,) float64, longer side of the person's box
    names: np.ndarray  # (M,) str, the samples' ids


def predict_dataset(
    net: PoseMachine | CaffeStages,
    dataset: PoseDataset,
    augment: AugmentConfig | ReleaseAugment,
    cores: Cores,
    batch: int = 16,
    stages: int | None = None,
    stop: Stop | None = None,
    ranks: Ranks | None = None,
    sigma: float | None = None,
) -> Predictions:
    """Run ``net``'s first ``stages`` (None: all) once, at one scale and without flipping, on every person.

    In float32 whatever precision trains, as ``cpm eval`` and ``cpm predict`` run the weights afterwards.

    With ``ranks`` each takes its share of the people, and all get everybody's predictions. ``sigma`` is that
    of the centre map, as in :func:`~cpm_repro.inference.network_input.network_input`.

    Raises:
        Stopped: ``stop`` was asked for on the way, on any rank.
    """
    ranks = ranks or Ranks()
    people = range(len(dataset))[ranks.share(len(dataset))]
    device = next(net.parameters()).device

    @torch.no_grad()
    def one(item: ValBatch) -> Predictions:
        data = network_input(item.batch.image.to(device), item.batch.center.to(device), sigma=sigma)
        data = data[:, : net.input_channels].contiguous(memory_format=torch.channels_last)
        decoded = [peaks(_with_background(maps, net)) for maps in net(data, stages)]
        # (stages, N, K, 3): x, y and height together, so that the host waits for a GPU once a batch.
        found = torch.stack([torch.cat([xy, score[..., None]], dim=-1) for xy, score in decoded]).cpu()
        inverse = torch.from_numpy(item.inverse)
        return Predictions(
            keypoints=np.stack([to_image(stage[..., :2], inverse).numpy() for stage in found]),
            scores=found[..., 2].numpy(),
            truth=item.joints.astype(np.float64),
            labelled=item.visible != Visibility.CROPPED,
            extent=item.extent,
            names=item.names,
        )

    modes = {module: module.training for module in net.modules()}  # frozen stages keep dropout off
    net.eval()
    done: list[Predictions] | None = None
    try:
        done = list(cores.stream(one, going_on(val_batches(dataset, augment, batch, people), stop)))
    except Stopped:
        pass
    finally:
        for module, training in modes.items():
            module.training = training
    shares = ranks.gather(done)
    if any(share is None for share in shares):
        raise Stopped
    return _joined([part for share in shares for part in share or ()])


def _joined(parts: list[Predictions]) -> Predictions:
    """All people in order."""
    return Predictions(
        np.concatenate([part.keypoints for part in parts], axis=1),
        np.concatenate([part.scores for part in parts], axis=1),
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.labelled for part in parts]),
        np.concatenate([part.extent for part in parts]),
        np.concatenate([part.names for part in parts]),
    )


def _with_background(maps: torch.Tensor, net: PoseMachine | CaffeStages) -> torch.Tensor:
    """``maps`` with a last map that decoding leaves out, where the network makes none."""
    return maps if net.maps > net.parts else torch.cat([maps, torch.zeros_like(maps[:, :1])], dim=1)


def score_stages(predictions: Predictions, dataset: PoseDataset) -> list[ScoreTable]:
    """One PCK@0.2 table per stage, stage 1 first (``lspet-pck``: spec `evaluation.md`).

    Without a torso (the person detector's single part) distances are shares of the box's longer side.
    """
    with warnings.catch_warnings():
        # A network that has learned little scores like one with swapped sides; the tables keep the remark.
        warnings.simplefilter("ignore", ScoreWarning)
        return [
            evaluate(
                keypoints,
                predictions.truth,
                protocol=PROTOCOL,
                labelled=predictions.labelled,
                norm=predictions.extent if dataset.skeleton.torso is None else None,
                skeleton=dataset.skeleton,
            )
            for keypoints in predictions.keypoints
        ]
