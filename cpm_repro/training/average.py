"""An exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Keeps a = d a + (1 - d) w after every update, in float32, with a smaller d in the beginning.

    The first updates use d = (1 + t) / (10 + t) where that is smaller, so that the initial weights are soon
    forgotten; t counts anew from where stages are trained that were not before.

    Args:
        net: the network; the average starts at its weights.
        decay: d, in (0, 1).
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self._weights: list[Tensor] = list(net.parameters())
        self._names = [name for name, _ in net.named_parameters()]
        self._average = [weight.detach().clone() for weight in self._weights]

    @property
    def values(self) -> list[Tensor]:
        """The averaged weights, in the order of the network's parameters."""
        return self._average

    @torch.no_grad()
    def update(self, number: int) -> None:
        """Take the weights in as they are after update ``number``, t above, 0-based."""
        decay = min(self.decay, (1 + number) / (10 + number))
        torch._foreach_lerp_(self._average, self._weights, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the network has the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for weight, average in zip(self._weights, self._average, strict=True):
            weight.data, average.data = average.data, weight.data

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights under the network's names."""
        return dict(zip(self._names, self._average, strict=True))

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave."""
        for name, average in zip(self._names, self._average, strict=True):
            average.copy_(state[name])
