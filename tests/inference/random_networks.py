"""Narrow networks that know nothing."""

import math

import torch

from cpm_repro import build


def random_net(arch, seed, parts=4, stages=2, width=0.05):
    """A narrow network whose maps are of order 1, from He-normal weights and random biases."""
    generator = torch.Generator().manual_seed(seed)
    net = build(arch, parts=parts, stages=stages, width=width).eval()
    with torch.no_grad():
        for layer in net.description.convolutions:
            module = net.layer(layer.name)
            module.weight.normal_(0, math.sqrt(2 / module.weight[0].numel()), generator=generator)
            module.bias.normal_(0, 0.05, generator=generator)
    return net


def random_tiny(seed):
    """A narrow network of 14 parts, as the weight file's shapes tell."""
    return random_net("tiny", seed, parts=14, stages=2, width=1 / 16)
