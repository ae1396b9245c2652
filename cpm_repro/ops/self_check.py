"""Does a back end compute on this machine what the torch reference computes? Small cases, under a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from cpm_repro import ops
from cpm_repro.errors import one_line

_Run = Callable[[str, torch.device], list[torch.Tensor]]
_DIFFERS = "differs by"


def wrong_operators(backend: str) -> dict[str, str]:
    """The operators that a back end gets wrong here, each with what it did; empty where all is well.

    Every operator runs once on ``backend``'s device and once on the CPU by the reference, with sizes that
    fill whole vectors and tiles and leave a rest. Numbers may lie apart by 1e-5 of the largest, or by 1e-5
    where that is below 1; 8-bit pixels must be equal.

    Args:
        backend: one of `available_backends`.

    Raises:
        ValueError: a back end that cannot run here.
    """
    if backend not in ops.available_backends():
        raise ValueError(f"backend must be one of {', '.join(ops.available_backends())}, got {backend!r}")
    device = torch.device("cuda" if backend in ("cuda", "cupy") else "cpu")
    wrong = {}
    for name, run in _CASES.items():
        try:
            differences = list(_differences(run(backend, device), run("reference", torch.device("cpu"))))
        except Exception as error:  # whatever a broken driver or build ends in is the finding
            wrong[name] = f"{type(error).__name__}: {one_line(error)}"
            continue
        if differences:
            wrong[name] = f"{_DIFFERS} {torch.tensor(differences).max():.2g}"  # NaN, if there is one
    return wrong


def runs_nothing(wrong: dict[str, str]) -> bool:
    """Whether every operator ended in an error: it was built for another GPU, driver or CUDA."""
    return wrong.keys() == _CASES.keys() and not any(what.startswith(_DIFFERS) for what in wrong.values())


def _differences(got: list[torch.Tensor], expected: list[torch.Tensor]) -> Iterator[float]:
    """The largest differences that are more than rounding."""
    for ours, reference in zip(got, expected, strict=True):
        apart = (ours.cpu().double() - reference.double()).abs().max().item()
        whole = not reference.dtype.is_floating_point
        allowed = 0.0 if whole else 1e-5 * max(1.0, reference.abs().max().item())
        if not apart <= allowed:  # NaN is wrong too
            yield apart


def _uniform(*shape: int, seed: int) -> torch.Tensor:
    """Numbers from 0 to 1, the same on every machine."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def _people(device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three samples of two people with 14 parts in and around a crop of 368 pixels."""
    joints = _uniform(3, 2, 14, 2, seed=0) * 400 - 16
    visible = (torch.arange(3 * 2 * 14) % 3).view(3, 2, 14)
    center = 184 + 40 * _uniform(3, 2, seed=1)
    return joints.to(device), visible.to(device), center.to(device)


def _belief_maps(backend: str, device: torch.device) -> list[torch.Tensor]:
    joints, visible, center = _people(device)
    return list(ops.belief_maps(joints, visible, center=center, backend=backend))


def _center_map(backend: str, device: torch.device) -> list[torch.Tensor]:
    return [ops.center_map(_people(device)[2], (93, 121), cutoff=False, backend=backend)]


def _belief_map_loss(backend: str, device: torch.device) -> list[torch.Tensor]:
    joints, visible, _ = _people(device)
    maps = [_uniform(3, 15, 46, 46, seed=2 + stage).to(device).requires_grad_() for stage in range(3)]
    losses = ops.belief_map_loss(maps, joints, visible, backend=backend)
    return [losses.detach(), *torch.autograd.grad(losses.sum(), maps)]


def _scales(device: torch.device) -> tuple[torch.Tensor, list[list[int]], list[list[int]], tuple[int, int]]:
    """Scores of five channels at two scales, one larger and one smaller than their picture of 141 x 203."""
    maps = _uniform(2, 5, 40, 40, seed=5).to(device)
    return maps, [[50, 2, 50, 3], [106, 72, 107, 72]], [[220, 315], [107, 176]], (141, 203)


def _fuse_multiscale(backend: str, device: torch.device) -> list[torch.Tensor]:
    return [ops.fuse_multiscale(*_scales(device), backend=backend)]


def _fuse_multiscale_peaks(backend: str, device: torch.device) -> list[torch.Tensor]:
    return list(ops.fuse_multiscale_peaks(*_scales(device), backend=backend))


def _imresize(backend: str, device: torch.device) -> list[torch.Tensor]:
    """8-bit pixels are not enlarged: exact ties of the rounding may fall either way then."""
    image = _uniform(61, 83, 3, seed=6).to(device)
    pixels = (image * 255).round().to(torch.uint8)
    cases = ((image, 0.6), (image, 1.7), (pixels, 0.6))
    return [ops.imresize(picture, factor, backend=backend) for picture, factor in cases]


_CASES: dict[str, _Run] = {
    "belief_maps": _belief_maps,
    "center_map": _center_map,
    "belief_map_loss": _belief_map_loss,
    "fuse_multiscale": _fuse_multiscale,
    "fuse_multiscale_peaks": _fuse_multiscale_peaks,
    "imresize": _imresize,
}
