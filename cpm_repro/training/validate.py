"""Validation: every stage's predictions for a data set's held-out people, scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cpm_repro.config import AugmentConfig
from cpm_repro.data import PoseDataset, val_batches
from cpm_repro.evaluation import ScoreTable, evaluate
from cpm_repro.inference.decode import peaks, to_image
from cpm_repro.inference.network_input import network_input
from cpm_repro.model import PoseMachine
from cpm_repro.skeleton import Visibility

PROTOCOL = "lspet-pck"


@dataclass(frozen=True)
class Predictions:
    """What each stage said about M people, beside the truth; image pixels, 0-based."""

    keypoints: np.ndarray  # (stages, M, K, 2) float64
    scores: np.ndarray  # (stages, M, K) float32
    truth: np.ndarray  # (M, K, 2) float64
    labelled: np.ndarray  # (M, K) bool


@torch.no_grad()
def predict_dataset(
    net: PoseMachine, dataset: PoseDataset, augment: AugmentConfig, batch: int = 25
) -> Predictions:
    """Run ``net`` once, at one scale and without flipping, on every person of ``dataset``."""
    device = next(net.parameters()).device
    training = net.training
    net.eval()
    keypoints, scores, truth, labelled = [], [], [], []
    for item in val_batches(dataset, augment, batch):
        data = network_input(item.batch.image.to(device), item.batch.center.to(device))
        decoded = [peaks(maps) for maps in net(data.contiguous(memory_format=torch.channels_last))]
        inverse = torch.from_numpy(item.inverse)
        keypoints.append(np.stack([to_image(xy.cpu(), inverse).numpy() for xy, _ in decoded]))
        scores.append(np.stack([score.cpu().numpy() for _, score in decoded]))
        truth.append(item.joints.astype(np.float64))
        labelled.append(item.visible != Visibility.CROPPED)
    net.train(training)
    return Predictions(
        np.concatenate(keypoints, axis=1),
        np.concatenate(scores, axis=1),
        np.concatenate(truth),
        np.concatenate(labelled),
    )


def score_stages(predictions: Predictions, dataset: PoseDataset) -> list[ScoreTable]:
    """One PCK@0.2 table per stage, stage 1 first (``lspet-pck``: spec `evaluation.md`)."""
    return [
        evaluate(
            keypoints,
            predictions.truth,
            protocol=PROTOCOL,
            labelled=predictions.labelled,
            skeleton=dataset.skeleton,
        )
        for keypoints in predictions.keypoints
    ]
