"""The loss of every stage in Caffe's units."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cpm_repro import ops
from cpm_repro.config import TargetConfig


def stage_losses(
    maps: Sequence[Tensor], joints: Tensor, visible: Tensor, target: TargetConfig, count: int | None = None
) -> Tensor:
    """Sum of squared differences over 2N, per stage (Caffe's EuclideanLoss; spec `training.md`).

    Stage 1 is held against the maps of everybody in the crop, later stages against the annotated person's
    alone. A network without a background map (the person detector) is held against everybody at every stage.
    Targets are made where they are compared, in the step, from joints; differences and sums are float32
    whatever the network computes in.

    Args:
        maps: per stage (N, K+1, h, w), any float type; (N, K, h, w) without a background map.
        joints: (N, P, K, 2) float, crop pixels; person 0 is the annotated one.
        visible: (N, P, K) Visibility codes.
        target: sigma and stride of the targets.
        count: N of the whole batch when these people are a part of it; None takes their own number.

    Returns:
        (stages,) float32; the objective is its plain sum.
    """
    channels, height, width = maps[0].shape[1:]
    parts = joints.shape[2]
    if channels == parts + 1:
        return ops.belief_map_loss(maps, joints, visible, target.stride, target.sigma, count=count)
    label = ops.belief_maps(joints, visible, grid=(height, width), stride=target.stride, sigma=target.sigma)
    everybody = label[:, parts + 1 : 2 * parts + 1]
    scale = 0.5 / (count or len(joints))
    return torch.stack([(belief.float() - everybody).square().sum() * scale for belief in maps])
