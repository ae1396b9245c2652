"""Where networks run: the device a user names, or the best one that is there, and what it can do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cpm_repro.errors import UserError, first_line


def usable_device(name: str | torch.device | None = None) -> torch.device:
    """The device of that name (``cpu``, ``cuda``, ``cuda:1``); None takes a GPU when there is one.

    Raises:
        UserError: no such device, or none that holds numbers here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:  # its own words list twenty kinds of device
        raise UserError(f"device {name}: wanted cpu or a GPU such as cuda:0") from error
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device {name}: cannot be used here: {first_line(error)}") from error
    if device.type == "meta":
        raise UserError(f"device {name}: wanted cpu or a GPU such as cuda:0, got one that holds no numbers")
    return device


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 products are instructions of this processor or GPU.

    Elsewhere they are emulated, on a processor ten times slower than float32.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@contextmanager
def float32_products(device: torch.device, *, tf32: bool) -> Iterator[None]:
    """Whether a GPU's float32 convolutions and matrix products may round what they multiply to TF32.

    TF32 keeps 10 bits of the mantissa; PyTorch allows it in convolutions unless it is told otherwise. The
    settings are the process's and are put back afterwards; on other devices nothing changes.
    """
    if device.type != "cuda":
        yield
        return
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = tf32
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


@contextmanager
def measured_convolutions(device: torch.device) -> Iterator[None]:
    """For work whose sizes come again and again: cuDNN measures its algorithms where it otherwise guesses.

    Every new size of a convolution is tried with several of them, once in a process, and the fastest is kept;
    that takes seconds for a large network. The setting is the process's and is put back afterwards; on
    other devices nothing changes.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads in torch's operators; the setting is the process's and is put back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
