"""A network made for fixed numbers of crops by torch.compile, on a GPU replayed as CUDA graphs."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

from cpm_repro.device import measured_convolutions
from cpm_repro.errors import EnvironmentFailure
from cpm_repro.model import PoseMachine

_WARM_UP = 3
"""Calls before a graph is captured: kernels are chosen and loaded, workspaces allocated."""

_making = threading.Lock()
"""One network at a time, whoever's it is: while a graph is captured nothing else may be."""


class CompiledNetwork:
    """Runs a network on batches that are filled up to 1, 2, 4, 8, ... crops.

    How many crops there are changes from batch to batch, and what is compiled or captured has one size. A
    size is made when it is first needed, at a minute's cost for a large network, and kept; as sizes double,
    there are few of them, and at most half of a batch is filling. May be called from several threads.

    Args:
        net: in evaluation mode, on its device, which is also that of all data.
        stages: stop after so many stages.
    """

    def __init__(self, net: PoseMachine, stages: int | None = None) -> None:
        self._net, self._stages = net, stages
        self._made: dict[tuple[int, ...], Callable[[Tensor], list[Tensor]]] = {}

    def __call__(self, data: Tensor) -> list[Tensor]:
        """Maps of every stage, (N, K+1, h, w) each, the caller's own, for (N, 4, H, W) channels last.

        Raises:
            EnvironmentFailure: no working C++ compiler (CPU) or Triton (GPU).
        """
        count = len(data)
        full = filled(data)
        run = self._made.get(full.shape)
        if run is None:
            with _making:
                run = self._made.get(full.shape)  # another thread may have made it meanwhile
                if run is None:
                    run = self._made[full.shape] = self._make(full)
        return [maps[:count] for maps in run(full)]

    def _make(self, data: Tensor) -> Callable[[Tensor], list[Tensor]]:
        # Exported first: what torch.compile makes of a module counts against all others of its class, and
        # beyond the eighth nothing is compiled any more. Every exported graph is a class of its own.
        with torch.inference_mode(False), torch.no_grad():
            given = (torch.empty_like(data), self._stages)
            graph = torch.export.export(self._net, given, strict=False).module()
        compiled = torch.compile(graph, dynamic=False)

        @torch.inference_mode()  # in every thread: another mode would be compiled anew
        def run(data: Tensor) -> list[Tensor]:
            return list(compiled(data, self._stages))

        try:
            with measured_convolutions(data.device):
                run(data)
                return _Graph(run, data) if data.is_cuda else run
        except (RuntimeError, ImportError) as error:  # whatever dynamo, inductor, Triton or g++ have to say
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise EnvironmentFailure(f"compile: the network cannot be compiled here: {reason}") from error


def filled(data: Tensor) -> Tensor:
    """``data`` with zeros after it, up to the next power of two."""
    missing = (1 << (len(data) - 1).bit_length()) - len(data)
    if not missing:
        return data
    return torch.cat((data, torch.zeros_like(data[:1]).expand(missing, -1, -1, -1))).contiguous(
        memory_format=torch.channels_last
    )


class _Graph:
    """A CUDA graph of one call: the device's work is repeated without Python's."""

    def __init__(self, run: Callable[[Tensor], list[Tensor]], data: Tensor) -> None:
        self._data = data.clone()
        self._lock = threading.Lock()
        self._done = torch.cuda.Event()
        side = torch.cuda.Stream(data.device)
        side.wait_stream(torch.cuda.current_stream(data.device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                run(self._data)
        torch.cuda.current_stream(data.device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # On a stream of the data's device: the usual one is of the current device, which may be another.
        with torch.cuda.graph(self._graph, stream=side, capture_error_mode="thread_local"):
            self._maps = run(self._data)

    def __call__(self, data: Tensor) -> list[Tensor]:
        """As the call that was captured; the maps are copies, which the next call leaves alone."""
        with self._lock:
            stream = torch.cuda.current_stream(data.device)
            stream.wait_event(self._done)  # another thread's stream may still read the maps
            self._data.copy_(data)
            self._graph.replay()
            maps = [stage.clone() for stage in self._maps]
            self._done.record(stream)
        return maps
