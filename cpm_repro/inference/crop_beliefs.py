"""The belief maps of people's crops: in batches of limited size, and of their mirror images too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cpm_repro.inference.network_input import network_input

Forward = Callable[[Tensor], list[Tensor]]
"""(N, 4, S, S), channels last, to the maps (N, K+1, h, w) of every stage."""


@dataclass(frozen=True)
class CropBeliefs:
    """How crops that each show one person in the middle are looked at.

    Attributes:
        forward: the network.
        device, dtype: where and in what type it computes.
        batch: most crops in one pass.
        flip_order: look at the mirror image too, whose K+1 maps come in this order; None: do not.
    """

    forward: Forward
    device: torch.device
    dtype: torch.dtype
    batch: int
    flip_order: Sequence[int] | None = None

    @torch.inference_mode()
    def __call__(self, crops: np.ndarray, *, last_only: bool) -> list[Tensor]:
        """Belief maps (J, V, K+1, h, w) float32 per stage of crops (J, V, S, S, 3), uint8 BGR.

        With mirror images V doubles: the mirrored views follow the others, their maps turned back.
        """
        jobs, views = crops.shape[:2]
        flat = torch.from_numpy(crops.reshape(-1, *crops.shape[2:])).to(self.device)
        stages = [maps.unflatten(0, (jobs, views)) for maps in self._run(flat, last_only=last_only)]
        if self.flip_order is None:
            return stages
        mirrored = self._run(flat.flip(2), last_only=last_only)
        turned = [maps.flip(3)[:, list(self.flip_order)].unflatten(0, (jobs, views)) for maps in mirrored]
        return [torch.cat(pair, dim=1) for pair in zip(stages, turned, strict=True)]

    def _run(self, crops: Tensor, *, last_only: bool) -> list[Tensor]:
        """Every stage's maps (or only the last one's) in float32."""
        parts = []
        for chunk in crops.split(self.batch):
            middle = (chunk.shape[1] - 1) / 2
            center = torch.full((len(chunk), 2), middle, dtype=torch.float32, device=self.device)
            data = network_input(chunk, center).to(self.dtype).contiguous(memory_format=torch.channels_last)
            maps = self.forward(data)
            parts.append([stage.float() for stage in (maps[-1:] if last_only else maps)])
        return [torch.cat(stage) for stage in zip(*parts, strict=True)]
