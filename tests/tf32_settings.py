"""What tests ask of PyTorch's settings of TF32, which a processor without a GPU has too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def tf32_flags() -> tuple[bool, bool]:
    """Whether TF32 is allowed in cuDNN's convolutions and in matrix products."""
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@contextmanager
def tf32_allowed(cudnn: bool, matmul: bool) -> Iterator[None]:
    """These settings inside; put back by assignment, the one thing that torch's module can do with them."""
    before = tf32_flags()
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = cudnn, matmul
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
