"""A training net of Caffe's as the stages of a pose machine, for what looks at belief maps, not at losses."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cpm_repro.caffe.net import CaffeNet
from cpm_repro.training.solver_plan import DataSettings


class CaffeStages(nn.Module):
    """Images in, every stage's belief maps out: what each EuclideanLoss compares with the labels.

    Attributes:
        input_channels, parts, maps: as :class:`~cpm_repro.model.PoseMachine` has them.
        tops: the blob of every stage's maps.

    Args:
        net: the training net.
        data: what its data layer says.
    """

    def __init__(self, net: CaffeNet, data: DataSettings) -> None:
        super().__init__()
        self.net = net
        self.image = data.tops[0]
        self.parts = data.parts
        self.maps = data.parts + 1  # the data layer's label has a background, and the loss one size
        self.input_channels = int(net.inputs[self.image][1])
        self.tops = belief_tops(net, data.tops[1])

    def forward(self, data: Tensor, stages: int | None = None) -> list[Tensor]:
        """Data (N, input_channels, H, W) -> maps (N, parts + 1, h, w) of the first ``stages`` (None: all)."""
        wanted = self.tops[:stages]
        blobs: dict[str, Tensor] = self.net(wanted, **{self.image: data})
        return [blobs[top] for top in wanted]


def belief_tops(net: CaffeNet, label: str) -> Sequence[str]:
    """What every EuclideanLoss compares with ``label`` or a slice of it, in the net's order."""
    from_label = {label}
    found = []
    for layer, _ in net.steps():
        own = [blob for blob in layer.bottom if blob not in from_label]
        if layer.bottom and not own:
            from_label.update(layer.top)
        if layer.type == "EuclideanLoss" and len(own) == 1:
            found.append(own[0])
    return found
