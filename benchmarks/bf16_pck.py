"""What does bfloat16 cost in accuracy? PCK of the network that ships with the package, float32 beside bf16.

bf16 is measured twice: convolved directly, and with all large kernels made to go through tiles, whose
rounding is coarser.

``python benchmarks/bf16_pck.py --data path/to/lspet``: the held-out people, every stage, one look each.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cpm_repro.data import open_dataset
from cpm_repro.environment import in_one_line
from cpm_repro.errors import told_in_one_line
from cpm_repro.files import atomic_write
from cpm_repro.inference.fast_convolution import FastConv2d, fast_convolutions
from cpm_repro.inference.tile_cost import SMALLEST_KERNEL
from cpm_repro.inference.weights import bundled_weights, load_model
from cpm_repro.markdown import table
from cpm_repro.training.sharding import cores_for
from cpm_repro.training.validate import predict_dataset, score_stages

_TILE = 16


def _half(net: nn.Module) -> nn.Module:
    """As ``precision="bf16"`` runs it: weights and activations in bfloat16, maps read as float32."""

    def lower(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0].bfloat16(), *inputs[1:])

    def raise_again(_: nn.Module, __: tuple[Any, ...], maps: list[torch.Tensor]) -> list[torch.Tensor]:
        return [stage.float() for stage in maps]

    net = net.bfloat16()
    net.register_forward_pre_hook(lower)
    net.register_forward_hook(raise_again)
    return net


class _Tiled(FastConv2d):
    """Through tiles, whatever the prediction says."""

    def tile(self, _: torch.Tensor) -> int | None:
        return _TILE if self.kernel_size[0] >= SMALLEST_KERNEL else None


def _through_tiles(net: nn.Module) -> nn.Module:
    for module in fast_convolutions(net).modules():
        if isinstance(module, FastConv2d):
            module.__class__ = _Tiled
    return net


def _percent(share: np.ndarray) -> str:
    return f"{100 * float(share.mean()):.1f} %"


def run(data: str) -> str:
    """A Markdown table of all precisions."""
    dataset = open_dataset(data, "val")
    ways: dict[str, Callable[[nn.Module], nn.Module]] = {
        "float32": lambda net: net,
        "bf16": _half,
        "bf16, through tiles": lambda net: _half(_through_tiles(net)),
    }
    rows, keypoints = [], {}
    for name, changed in ways.items():
        model = load_model(bundled_weights(), None)
        net: Any = changed(model.net)
        with cores_for(net, torch.device("cpu"), batch=16) as cores:
            found = predict_dataset(net, dataset, model.augment, cores)
        stages = score_stages(found, dataset)
        keypoints[name] = found.keypoints[-1]
        moved = np.linalg.norm(keypoints[name] - keypoints["float32"], axis=-1)
        scores = [f"{one.total:.2f}" for one in stages]
        rows.append([name, *scores, _percent(moved == 0), _percent(moved > 5)])
    heads = [
        "precision",
        *(f"stage {k + 1}" for k in range(len(stages))),
        "last stage: parts that stay",
        "that move by > 5 px",
    ]
    lines = [
        "# bfloat16 beside float32: accuracy of the network that ships with the package",
        "",
        in_one_line(),
        "",
        table(heads, rows),
        "",
        f"{stages[-1].protocol}. Parts that stay or move are those of all {len(moved)} people. In the last "
        f"row kernels of 7x7 and larger go through tiles of {_TILE} (the released networks': 18 to 26), "
        "whose rounding is coarser; elsewhere all are convolved directly.",
        "",
        "Command: `python benchmarks/bf16_pck.py --data $CPM_DATA/lspet`",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder in the LSP-extended layout")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    with told_in_one_line("bf16_pck"):
        text = run(options.data)
        if options.out is not None:
            with atomic_write(options.out, "w") as file:
                file.write(text + "\n")
        print(text)
