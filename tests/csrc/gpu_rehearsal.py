"""A pytest plugin that plays a GPU on the CPU, for tests of operators on a GPU without one.

What is asked for on ``cuda`` lies on the CPU and is marked: it does not go together with what is not. The
back end ``cuda`` is the compiled CPU code and ``cupy`` its stand-in, which runs the GPU's kernels and is
taken where nobody says. Captured graphs run their operators again when they are replayed, and a capture that
would wait for the device is an error. Streams do nothing: only a GPU shows what is forgotten there.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cupy_stand_in
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cpm_repro.ops import _library

# Operators whose results are on the host, so that a GPU is waited for. A capture refuses them.
WAITING = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero")


# Tensors of both devices may meet here.
_MIXING = (torch.Tensor.copy_, torch.Tensor.__getitem__, torch.Tensor.__setitem__)
_GPU = torch.device("cuda", 0)


def _is_gpu(device: Any) -> bool:
    return isinstance(device, str | torch.device) and str(device).split(":")[0] == "cuda"


def _tensors(values: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


class OnTheCpu(TorchFunctionMode):
    """``cuda`` means a marked copy on the CPU; marked tensors and others do not go together.

    Products of large matrices, which are made to take time, are small.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        marked = [hasattr(tensor, "on_gpu") for tensor in _tensors((args, kwargs)) if tensor.ndim]
        if func == torch.Tensor.device.__get__ and hasattr(args[0], "on_gpu"):
            return _GPU
        if func == torch.Tensor.is_cuda.__get__:
            return hasattr(args[0], "on_gpu")
        if func is torch.Tensor.numpy and any(marked):
            raise TypeError("can't convert a tensor of a GPU to NumPy")
        if func is torch.randn and args == (4096, 4096):
            args = (8, 8)
        if any(marked) and not all(marked) and func not in _MIXING:
            raise RuntimeError(f"{name}: tensors are on two devices")
        given = [kwargs["device"]] if kwargs.get("device") is not None else []
        given += [arg for arg in args if isinstance(arg, torch.device) or _is_gpu(arg)]
        given += [arg for arg in args if isinstance(arg, str) and arg == "cpu"]
        to_gpu = _is_gpu(given[0]) if given else any(marked)
        kwargs = {key: "cpu" if _is_gpu(value) else value for key, value in kwargs.items()}
        args = tuple("cpu" if _is_gpu(arg) else arg for arg in args)
        if func in (torch.Tensor.cuda, torch.Tensor.cpu):
            result, to_gpu = args[0].clone(), func is torch.Tensor.cuda
        else:
            result = func(*args, **kwargs)
            if func is torch.Tensor.to and given and result is args[0]:
                result = result.clone()
        if to_gpu and func not in _MIXING[:1]:
            for tensor in _tensors(result):
                tensor.on_gpu = True  # type: ignore[attr-defined]
        return result


class Graph(TorchDispatchMode):
    """A captured graph: the operators, in order, with what they read and made."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.__name__.split(".")[0] in WAITING:
            raise RuntimeError(f"{func} waits for the device while a graph is captured")
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        """Runs them again, into the tensors of the capture."""
        for func, args, kwargs, result in self.calls:
            again = func(*args, **kwargs)
            for to, value in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(to, torch.Tensor):
                    to.copy_(value)


@contextlib.contextmanager
def _nothing(*_: Any) -> Iterator[None]:
    yield


def _choose(wanted: str | None, _: str, device: torch.device) -> str:
    """The compiled CPU code for ``cuda`` by its name; where nobody says, the GPU's kernels on its tensors."""
    return {"cuda": "cpu", None: "cupy" if device.type == "cuda" else "cpu"}.get(wanted, str(wanted))


def pytest_configure() -> None:
    """Puts the CPU in the GPU's place."""
    nothing = SimpleNamespace(synchronize=lambda: None, cuda_stream=0)
    played: dict[str, Any] = {
        "is_available": lambda: True,
        "Stream": lambda: nothing,
        "current_stream": lambda *_: nothing,
        "stream": _nothing,
        "synchronize": lambda: None,
        "mem_get_info": lambda: (0, 0),  # what needs gigabytes is left out
        "CUDAGraph": Graph,
        "graph": lambda graph: graph,
    }
    for name, value in played.items():
        setattr(torch.cuda, name, value)
    compiled = _library.has_kernel
    _library.has_kernel = lambda operator, _: compiled(operator, "cpu")
    sys.modules["cupy"] = cupy_stand_in.CuPy(Path(tempfile.mkdtemp()))  # type: ignore[assignment]
    for name in ("belief_maps", "belief_map_loss", "fuse_multiscale", "imresize"):
        front = importlib.import_module(f"cpm_repro.ops.{name}")
        front.choose = _choose  # type: ignore[attr-defined]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Every test runs with it."""
    with OnTheCpu():
        return (yield)
