"""MATLAB's imresize beside OpenCV's cubic, which is another kernel and gives another result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import cv2
import numpy as np
import torch
from kernels import CUPY

from cpm_repro import ops
from cpm_repro.bench import Case, Question, main


def _ours(image: torch.Tensor, scale: float, _: int = 0, backend: str | None = None) -> torch.Tensor:
    return ops.imresize(image, scale, backend=backend)


def _opencv(image: np.ndarray, scale: float, _: int = 0) -> np.ndarray:
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)


def _reference(image: torch.Tensor, scale: float, _: int = 0) -> torch.Tensor:
    return ops.imresize(image, scale, backend="reference")


def _differing(image: torch.Tensor, scale: float) -> float:
    """Share of pixels that differ from the reference: only exact ties of the rounding may."""
    wanted = _reference(image, scale)
    return max(float((_ours(image, scale, backend=name) != wanted).double().mean()) for name in (None, *CUPY))


def ask(quick: bool, device: str) -> Question:
    """An 8-bit picture, shrunk twice and enlarged once."""

    def cases() -> Iterator[Case]:
        side = (90, 160, 3) if quick else (720, 1280, 3)
        array = np.random.default_rng(0).integers(0, 256, side, dtype=np.uint8)
        image = torch.from_numpy(array).to(device)
        for scale in (0.43, 0.8, 1.3):
            ways: dict[str, Callable[[int], object]] = {
                "cpm_repro": partial(_ours, image, scale),
                "eager torch, the reference": partial(_reference, image, scale),
                "OpenCV INTER_CUBIC (another rule)": partial(_opencv, array, scale),
            }
            if CUPY:
                ways["cpm_repro, CuPy back end"] = partial(_ours, image, scale, backend="cupy")
            yield Case(
                f"{side[0]}x{side[1]}, scale {scale}",
                ways,
                check=partial(_differing, image, scale),
                tolerance=1e-5,
                bytes=image.numel() + _ours(image, scale).numel(),
                axis=("scale", scale),
            )

    return Question("imresize", "How fast is MATLAB's bicubic imresize of an 8-bit colour picture?", cases())


if __name__ == "__main__":
    main(ask, __file__)
