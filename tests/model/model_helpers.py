"""What the model tests share: golden weights and inputs by their rule, and a layer-by-layer interpreter."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

GOLDEN = {
    "mpii_6stage": "mpii",
    "flic_4stage": "flic",
    "mpii_vgg_6stage": "vgg",
    "person_4stage": "person",
}
SMALL = {
    "mpii_6stage": 0.04,
    "flic_4stage": 0.04,
    "mpii_vgg_6stage": 0.03,
    "person_4stage": 0.03,
    "tiny": 0.02,
}


def spec_networks() -> dict:
    """The copy of spec `networks.json`."""
    import json

    return json.loads((Path(__file__).parents[1] / "golden" / "networks.json").read_text())


@torch.no_grad()
def fill_by_golden_rule(net, seed: int, gain: float = 1.0) -> None:
    """Convolution i in prototxt order has RandomState(1000 + i + 100000 seed): first weight, then bias."""
    for i, layer in enumerate(net.description.convolutions):
        rng = np.random.RandomState(1000 + i + seed * 100000)
        conv = net.layer(layer.name)
        std = math.sqrt(2 / conv.weight[0].numel()) * gain
        conv.weight.copy_(torch.from_numpy((rng.randn(*conv.weight.shape) * std).astype(np.float32)))
        conv.bias.copy_(torch.from_numpy((rng.randn(*conv.bias.shape) * 0.05).astype(np.float32)))


def golden_input(shape, seed: int) -> torch.Tensor:
    """Noise images, three channels around zero and the centre map's from zero up."""
    u = np.random.RandomState(seed).randint(0, 256, size=shape)
    offset = np.array([128, 128, 128, 0][: shape[1]]).reshape(1, -1, 1, 1)
    return torch.from_numpy(((u - offset) / 256).astype(np.float32))


def worst_relative_error(maps, wanted) -> float:
    """Largest difference over all stages, each as a share of that stage's range."""
    errors = [0.0]
    for got, want in zip(maps, wanted, strict=True):
        assert tuple(got.shape) == want.shape
        errors.append(float(np.abs(got.numpy() - want).max() / (want.max() - want.min())))
    return max(errors)


def _pool(x: torch.Tensor, layer) -> torch.Tensor:
    """Caffe's pooling from its definition: windows clipped to the input, as many as start within reach."""

    def windows(size: int) -> list[slice]:
        count = math.ceil((size - layer.kernel_size) / layer.stride) + 1
        starts = [i * layer.stride for i in range(count)]
        return [slice(start, min(start + layer.kernel_size, size)) for start in starts]

    def reduce(patch: torch.Tensor) -> torch.Tensor:
        return patch.amax((2, 3)) if layer.pool == "MAX" else patch.mean((2, 3))

    rows = [
        torch.stack([reduce(x[:, :, rows, columns]) for columns in windows(x.shape[3])], dim=-1)
        for rows in windows(x.shape[2])
    ]
    return torch.stack(rows, dim=-2)


def interpret(
    description,
    parameters: dict[str, torch.Tensor],
    data: torch.Tensor,
    dropout_masks: dict[str, torch.Tensor] | None = None,
) -> list[torch.Tensor]:
    """Run the layer list as Caffe would, blob by blob and never in place; the belief maps of every stage.

    Of a training network everything but labels and losses runs; ``dropout_masks`` holds 0 or 1 per element.
    """
    blobs = {description.input_blob: data}
    for layer in description:
        if layer.type == "EuclideanLoss" or layer.bottom == ("label",):
            continue
        bottom = [blobs[name] for name in layer.bottom]
        if layer.type == "Slice":
            tops = [bottom[0][:, : layer.slice_point], bottom[0][:, layer.slice_point :]]
        elif layer.type == "Convolution":
            weight, bias = parameters[f"{layer.name}.weight"], parameters[f"{layer.name}.bias"]
            tops = [functional.conv2d(bottom[0], weight, bias, padding=layer.pad)]
        elif layer.type == "ReLU":
            tops = [bottom[0] * (bottom[0] > 0)]  # so that, as in Caffe, the gradient at 0 is 0
        elif layer.type == "Pooling":
            tops = [_pool(bottom[0], layer)]
        elif layer.type == "Dropout":
            tops = [bottom[0] * dropout_masks[layer.name] / (1 - layer.dropout_ratio)]
        elif layer.type == "Concat":
            tops = [torch.cat(bottom, 1)]
        else:
            raise AssertionError(layer.type)
        blobs.update(zip(layer.top, tops, strict=True))
    return [blobs[name] for name in description.belief_blobs]
