"""What does bfloat16 cost in accuracy? PCK of the network that ships with the package, float32 beside bf16.

``python benchmarks/bf16_pck.py --data path/to/lspet``: the held-out people, every stage, one look each.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cpm_repro.data import open_dataset
from cpm_repro.environment import environment
from cpm_repro.inference.weights import bundled_weights, load_model
from cpm_repro.training.sharding import cores_for
from cpm_repro.training.validate import predict_dataset, score_stages


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


def run(data: str) -> str:
    """A Markdown table of both precisions."""
    model = load_model(bundled_weights(), None)
    dataset = open_dataset(data, "val")
    made = environment()
    lines = [
        "# bfloat16 beside float32: accuracy of the network that ships with the package",
        "",
        f"{made['date']}, commit {made['commit']}, {made['processor']}, torch {made['torch']}.",
        "",
        "| precision | " + " | ".join(f"stage {k + 1}" for k in range(model.net.stages)) + " |",
        "| --- |" + " ---: |" * model.net.stages,
    ]
    keypoints = []
    for name in ("float32", "bf16"):
        net: Any = model.net if name == "float32" else _half(model.net)
        with cores_for(net, torch.device("cpu"), batch=16) as cores:
            found = predict_dataset(net, dataset, model.augment, cores)
        tables = score_stages(found, dataset)
        keypoints.append(found.keypoints[-1])
        lines.append(f"| {name} | " + " | ".join(f"{table.total:.2f}" for table in tables) + " |")
    moved = np.linalg.norm(keypoints[1] - keypoints[0], axis=-1)
    lines += [
        "",
        f"PCK@{tables[-1].threshold:g}, percent: {tables[-1].rule}. Of {len(moved)} people, "
        f"last stage, {100 * float((moved == 0).mean()):.1f} % of the parts do not move at all, "
        f"{100 * float((moved > 5).mean()):.1f} % by more than 5 pixels.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder in the LSP-extended layout")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    text = run(options.data)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
