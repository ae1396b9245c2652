"""Prototxts as other researchers write them: hand, face and body nets of the CPM family, in our own words.

Small widths; structure and spelling are what matters: old-style inputs of 1 x 1 that are enlarged at run
time, a VGG trunk, refinement stages on concatenated features and maps, two branches, PReLU, dense blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch

from cpm_repro.caffe.net import CaffeNet
from cpm_repro.caffe.prototxt import format_prototxt, parse_prototxt

BOUND = 1e-5  # of the range; measured 2.7e-7
INPUT = (
    'name: "net"\ninput: "image"\ninput_dim: 1 # set at run time\ninput_dim: 3\ninput_dim: 1\ninput_dim: 1\n'
)


def conv(name: str, bottom: str, outputs: int, kernel: int) -> str:
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" param {{ lr_mult: 1.0 '
        f"decay_mult: 1 }} param {{ lr_mult: 2.0 decay_mult: 0 }} convolution_param {{ num_output: {outputs} "
        f'pad: {kernel // 2} kernel_size: {kernel} weight_filler {{ type: "xavier" }} '
        f'bias_filler {{ type: "constant" }} }} }}\n'
    )


def act(name: str, blob: str, kind: str = "ReLU") -> str:
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{blob}" top: "{blob}" }}\n'


def join(name: str, *bottoms: str) -> str:
    listed = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
    return f'layer {{ name: "{name}" type: "Concat" {listed} top: "{name}" concat_param {{ axis: 1 }} }}\n'


def trunk(kind: str = "ReLU") -> Iterator[str]:
    """Three blocks of two 3x3 convolutions, each pooled 2x2, and the features ``conv4``."""
    blob = "image"
    for block in (1, 2, 3):
        for i in (1, 2):
            yield conv(f"conv{block}_{i}", blob, 4 * block, 3)
            blob = f"conv{block}_{i}"
            yield act(f"relu{block}_{i}", blob, kind)
        yield (
            f'layer {{ name: "pool{block}_stage1" type: "Pooling" bottom: "{blob}" top: "pool{block}_stage1" '
            "pooling_param { pool: MAX kernel_size: 2 stride: 2 } }\n"
        )
        blob = f"pool{block}_stage1"
    yield conv("conv4", blob, 8, 3) + act("relu4", "conv4", kind)


def keypoint_net(maps: int) -> str:
    """Hand (22 maps) or face (71): stage 1, then two refinements of 7x7 convolutions on features and maps."""
    text = INPUT + "".join(trunk())
    text += conv("conv6_1_CPM", "conv4", 16, 1) + act("relu6_1_CPM", "conv6_1_CPM")
    text += conv("conv6_2_CPM", "conv6_1_CPM", maps, 1)
    last = "conv6_2_CPM"
    for stage in (2, 3):
        text += join(f"concat_stage{stage}", last, "conv4")
        blob = f"concat_stage{stage}"
        for i in (1, 2):
            text += conv(f"Mconv{i}_stage{stage}", blob, 8, 7)
            blob = f"Mconv{i}_stage{stage}"
            text += act(f"Mrelu{i}_stage{stage}", blob)
        last = f"Mconv3_stage{stage}"
        text += conv(last, blob, maps, 1)
    return text


def two_branch_net() -> str:
    """Fields and maps side by side, joined with the features for the next stage and for the output."""
    text = INPUT + "".join(trunk())
    for branch, maps in (("L1", 12), ("L2", 7)):
        text += conv(f"conv5_1_{branch}", "conv4", 8, 3) + act(f"relu5_1_{branch}", f"conv5_1_{branch}")
        text += conv(f"conv5_2_{branch}", f"conv5_1_{branch}", maps, 1)
    text += join("concat_stage2", "conv5_2_L1", "conv5_2_L2", "conv4")
    for branch, maps in (("L1", 12), ("L2", 7)):
        text += conv(f"Mconv1_{branch}", "concat_stage2", 8, 7) + act(f"Mrelu1_{branch}", f"Mconv1_{branch}")
        text += conv(f"Mconv2_{branch}", f"Mconv1_{branch}", maps, 1)
    return text + join("net_output", "Mconv2_L2", "Mconv2_L1")


def dense_prelu_net() -> str:
    """PReLU throughout; each block joins the outputs of its three 3x3 convolutions."""
    text = INPUT + "".join(trunk("PReLU"))
    blob = "conv4"
    for block in (1, 2):
        parts = []
        for i in range(3):
            name = f"Mconv{block}_stage0_{i}"
            text += conv(name, blob, 6, 3) + act(f"Mprelu{block}_stage0_{i}", name, "PReLU")
            parts.append(name)
            blob = name
        blob = f"Mconv{block}_stage0_concat"
        text += join(blob, *parts)
    return text + conv("net_output", blob, 26, 1)


NETS = {
    "hand": (keypoint_net(22), "Mconv3_stage3", 22),
    "face": (keypoint_net(71), "Mconv3_stage3", 71),
    "two branches": (two_branch_net(), "net_output", 19),
    "dense PReLU": (dense_prelu_net(), "net_output", 26),
}


@pytest.mark.parametrize("size", [(46, 62), (37, 53)])
@pytest.mark.parametrize("name", NETS)
def test_nets_of_the_family_run_as_they_are(name, size, tmp_path):
    text, out, maps = NETS[name]
    (tmp_path / "deploy.prototxt").write_text(text)
    net = CaffeNet(tmp_path / "deploy.prototxt", seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim == 1:  # biases and PReLU slopes, which fillers make alike
                parameter.uniform_(-0.2, 0.4, generator=generator)
    net.save(tmp_path / "x.caffemodel")
    image = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 3, *size)).astype(np.float32)
    with torch.no_grad():
        ours = net([out], image=image)[out].numpy()
    cells = [math.ceil(side / 8) for side in size]
    assert ours.shape == (2, maps, *cells)
    other = cv2.dnn.readNetFromCaffe(str(tmp_path / "deploy.prototxt"), str(tmp_path / "x.caffemodel"))
    other.setInput(image)
    assert np.abs(other.forward(out) - ours).max() <= BOUND * np.ptp(ours)


def test_rewritten_files_are_the_same_net():
    for text, out, _ in NETS.values():
        message = parse_prototxt(text)
        again = parse_prototxt(format_prototxt(message))
        assert again == message
        assert CaffeNet(again)(image=torch.zeros(1, 3, 16, 16))[out].shape[2:] == (2, 2)
