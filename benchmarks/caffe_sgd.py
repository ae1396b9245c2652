"""Caffe's update of all parameters of a network: one fused pass against the three lines as they stand."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial

import torch

from cpm_repro.bench import Case, Question, largest, main
from cpm_repro.caffe import CaffeSGD
from cpm_repro.model import build

_MOMENTUM, _DECAY, _LR = 0.9, 5e-4, 8e-5


def _optimizer(net: torch.nn.Module, *, fused: bool) -> CaffeSGD:
    groups = net.parameter_groups()  # type: ignore[operator]
    return CaffeSGD(groups, lr=_LR, momentum=_MOMENTUM, weight_decay=_DECAY, fused=fused)


def _step(optimizer: torch.optim.Optimizer, _: int) -> None:
    optimizer.step()


def _difference(arch: str, device: str) -> float:
    """Largest difference after two updates from float64, relative to the largest weight; separate arrays."""
    torch.manual_seed(0)
    net = build(arch).to(device)
    exact = copy.deepcopy(net).double()
    optimizers = [_optimizer(net, fused=True), _optimizer(exact, fused=False)]
    for _ in range(2):
        for ours, theirs in zip(net.parameters(), exact.parameters(), strict=True):
            ours.grad = torch.randn_like(ours)
            theirs.grad = ours.grad.double()
        for optimizer in optimizers:
            optimizer.step()
    return largest(
        float((a.detach().double() - b.detach()).abs().max() / b.detach().abs().max())
        for a, b in zip(net.parameters(), exact.parameters(), strict=True)
    )


def ask(quick: bool, device: str) -> Question:
    """The tiny network, and the six-stage one unless ``quick``."""

    def cases() -> Iterator[Case]:
        for arch in ("tiny",) if quick else ("tiny", "mpii_6stage"):
            nets = {way: build(arch).to(device) for way in ("fused", "lists", "torch.optim.SGD, fused")}
            for net in nets.values():
                for weight in net.parameters():
                    weight.grad = torch.randn_like(weight)
            fused = _optimizer(nets["fused"], fused=True)
            plain = _optimizer(nets["lists"], fused=False)
            theirs = torch.optim.SGD(
                nets["torch.optim.SGD, fused"].parameters(),
                lr=_LR, momentum=_MOMENTUM, weight_decay=_DECAY, fused=True,
            )  # fmt: skip
            count = sum(weight.numel() for weight in nets["fused"].parameters())
            yield Case(
                arch,
                {
                    "fused": partial(_step, fused),
                    "lists": partial(_step, plain),
                    "torch.optim.SGD, fused (another rule)": partial(_step, theirs),
                },
                check=partial(_difference, arch, device),
                tolerance=1e-6,
                bytes=20 * count,  # read weight, gradient and momentum; write weight and momentum
                operations=6 * count,
                axis=("parameters", count),
            )

    return Question("Caffe's SGD", "How long does one update of all parameters take?", cases())


if __name__ == "__main__":
    main(ask, __file__)
