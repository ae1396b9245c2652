"""Every layer type CaffeNet knows, against OpenCV's Caffe importer or numbers worked out by hand."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from cpm_repro.caffe.net import LAYERS, CaffeNet
from cpm_repro.caffe.prototxt import format_prototxt, parse_prototxt
from cpm_repro.errors import UserError

TOLERANCE = 2e-5  # worst measured 1.0e-6 on values of order 1 (two float32 implementations)


def net_of(body: str, shape=(2, 6, 11, 9), phase="TEST", **options) -> CaffeNet:
    dims = " ".join(f"dim: {size}" for size in shape)
    head = f'name: "t" layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }}'
    return CaffeNet(parse_prototxt(f"{head} {body}"), phase, **options)


def randomise(net: CaffeNet) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for _, module in net.steps():
            for blob, name in zip(module.blobs(), module.blob_names, strict=True):
                blob.copy_(torch.randn(blob.shape, generator=generator) * 0.5)
                if name in ("variance", "factor"):
                    blob.abs_().add_(0.5)


def through_opencv(net: CaffeNet, x: np.ndarray, out: str, folder) -> np.ndarray:
    (folder / "net.prototxt").write_text(format_prototxt(net.message))
    net.save(folder / "net.caffemodel")
    other = cv2.dnn.readNetFromCaffe(str(folder / "net.prototxt"), str(folder / "net.caffemodel"))
    other.setInput(x)
    return other.forward(out)


def simple(kind: str, params: str = "", bottoms: str = 'bottom: "x"', top: str = 'top: "y"') -> str:
    return f'layer {{ name: "y" type: "{kind}" {bottoms} {top} {params} }}'


CASES = {
    "Convolution": simple("Convolution", "convolution_param { num_output: 5 kernel_size: 3 }"),
    "Convolution stride pad": simple(
        "Convolution", "convolution_param { num_output: 4 kernel_size: 5 pad: 2 stride: 3 bias_term: false }"
    ),
    "Convolution dilation": simple(
        "Convolution", "convolution_param { num_output: 4 kernel_size: 3 pad: 2 dilation: 2 }"
    ),
    "Convolution group": simple("Convolution", "convolution_param { num_output: 4 kernel_size: 3 group: 2 }"),
    "Convolution depthwise": simple(
        "Convolution", "convolution_param { num_output: 6 kernel_size: 3 pad: 1 group: 6 }"
    ),
    "Convolution rectangular": simple(
        "Convolution",
        "convolution_param { num_output: 3 kernel_h: 5 kernel_w: 2 "
        "pad_h: 1 pad_w: 0 stride_h: 2 stride_w: 1 }",
    ),
    "Deconvolution": simple(
        "Deconvolution", "convolution_param { num_output: 5 kernel_size: 4 stride: 2 pad: 1 }"
    ),
    "Deconvolution group": simple(
        "Deconvolution", "convolution_param { num_output: 6 kernel_size: 3 stride: 2 group: 6 }"
    ),
    "ReLU": simple("ReLU"),
    "ReLU slope": simple("ReLU", "relu_param { negative_slope: 0.25 }"),
    "PReLU": simple("PReLU"),
    "Sigmoid": simple("Sigmoid"),
    "TanH": simple("TanH"),
    "ELU": simple("ELU", "elu_param { alpha: 1 }"),
    "Power": simple("Power", "power_param { power: 2 scale: 0.5 shift: 3 }"),
    "Pooling max 3x3/2": simple("Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }"),
    "Pooling max 2x2/2": simple("Pooling", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"),
    "Pooling max padded": simple("Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 }"),
    "Pooling max rectangular": simple(
        "Pooling", "pooling_param { pool: MAX kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 2 }"
    ),
    "Pooling ave 9x9/8": simple("Pooling", "pooling_param { pool: AVE kernel_size: 9 stride: 8 }"),
    "Pooling ave 3x3/2": simple("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }"),
    "Pooling global ave": simple("Pooling", "pooling_param { pool: AVE global_pooling: true }"),
    "Pooling global max": simple("Pooling", "pooling_param { pool: MAX global_pooling: true }"),
    "BatchNorm": simple("BatchNorm"),
    "Scale": simple("Scale", "scale_param { bias_term: true }"),
    "BatchNorm then Scale": simple("BatchNorm", top='top: "b"').replace('name: "y"', 'name: "b"')
    + simple("Scale", "scale_param { bias_term: true }", bottoms='bottom: "b"'),
    "LRN across": simple("LRN", "lrn_param { local_size: 5 alpha: 0.1 beta: 0.75 }"),
    "LRN within": simple(
        "LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 norm_region: WITHIN_CHANNEL }"
    ),
    "InnerProduct": simple("InnerProduct", "inner_product_param { num_output: 7 }"),
    "Softmax": simple("Softmax"),
    "Softmax axis": simple("Softmax", "softmax_param { axis: 2 }"),
    "Flatten": simple("Flatten"),
    "Reshape": simple("Reshape", "reshape_param { shape { dim: 0 dim: 3 dim: -1 dim: 9 } }"),
    "Dropout": simple("Dropout", "dropout_param { dropout_ratio: 0.4 }"),
    "Slice then Concat": 'layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" top: "c" '
    "slice_param { slice_point: 1 slice_point: 4 } }"
    'layer { name: "y" type: "Concat" bottom: "c" bottom: "a" bottom: "b" top: "y" }',
    "Slice equal then Eltwise sum": 'layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" }'
    'layer { name: "y" type: "Eltwise" bottom: "a" bottom: "b" top: "y" '
    "eltwise_param { coeff: 2 coeff: -0.5 } }",
    "Eltwise prod": 'layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" }'
    'layer { name: "y" type: "Eltwise" bottom: "a" bottom: "b" top: "y" eltwise_param { operation: PROD } }',
    "Eltwise max": 'layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" }'
    'layer { name: "y" type: "Eltwise" bottom: "a" bottom: "b" top: "y" eltwise_param { operation: MAX } }',
    "Split": 'layer { name: "s" type: "Split" bottom: "x" top: "a" top: "b" }'
    'layer { name: "r" type: "ReLU" bottom: "a" top: "a" }'
    'layer { name: "y" type: "Concat" bottom: "a" bottom: "b" top: "y" }',
    "in-place": 'layer { name: "c" type: "Convolution" bottom: "x" top: "y" '
    "convolution_param { num_output: 3 kernel_size: 1 } }"
    'layer { name: "r" type: "ReLU" bottom: "y" top: "y" }'
    'layer { name: "p" type: "Power" bottom: "y" top: "y" power_param { shift: 1 } }',
}


@pytest.mark.parametrize("case", CASES)
def test_against_opencv(case, tmp_path):
    net = net_of(CASES[case])
    randomise(net)
    x = np.random.default_rng(1).standard_normal((2, 6, 11, 9)).astype(np.float32)
    with torch.no_grad():
        ours = net(x=torch.from_numpy(x))["y"].numpy()
    layer = "p" if case == "in-place" else "y"
    theirs = through_opencv(net, x, layer, tmp_path)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, rtol=TOLERANCE)


HAND_CHECKED = {"Silence", "EuclideanLoss", "Bias"}


def test_every_known_type_is_checked_here():
    covered = {layer.type for body in CASES.values() for layer, _ in net_of(body).steps()}
    assert covered | HAND_CHECKED == set(LAYERS)


def run(body: str, shape, phase="TEST", **inputs):
    return net_of(body, shape, phase)(**inputs)


def test_average_divisor_counts_padding_but_nothing_beyond():
    """Worked by hand: kernel 3, stride 2, pad 1 on a row of 4 ones; windows begin at -1, 1, 3.

    Windows cover (pad, 1, 1), (1, 1, 1), (1, pad): sums 2, 3, 1; the last is clipped to the padded row, so
    columns give 2/3, 1, 1/2. A single row: (pad, 1, pad) gives 1/3 as second factor.
    """
    body = simple("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }")
    y = run(body, (1, 1, 1, 4), x=torch.ones(1, 1, 1, 4))["y"]
    np.testing.assert_allclose(y.numpy(), np.array([[[[2 / 9, 1 / 3, 1 / 6]]]]), rtol=1e-6)


def test_large_padding_and_the_window_that_would_begin_outside():
    """Kernel 4, stride 4, pad 3 on 2 pixels: ceil((2 + 6 - 4) / 4) + 1 = 2 windows, the second at pixel 1."""
    body = simple("Pooling", "pooling_param { pool: MAX kernel_size: 4 stride: 4 pad: 3 }")
    y = run(body, (1, 1, 2, 2), x=torch.tensor([[[[1.0, -2.0], [-3.0, -4.0]]]]))["y"]
    assert y.tolist() == [[[[1.0, -2.0], [-3.0, -4.0]]]]
    # Stride 5 on 2 pixels: ceil(4 / 5) + 1 = 2, but the second window begins at pixel 2: dropped.
    body = simple("Pooling", "pooling_param { pool: MAX kernel_size: 4 stride: 5 pad: 3 }")
    assert run(body, (1, 1, 2, 2), x=torch.ones(1, 1, 2, 2))["y"].shape == (1, 1, 1, 1)


def test_pooled_sizes_round_up():
    body = simple("Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }")
    for size, wanted in ((368, 184), (367, 183), (5, 2), (4, 2), (3, 1), (6, 3)):
        assert run(body, (1, 1, size, 3), x=torch.zeros(1, 1, size, 3))["y"].shape[2] == wanted


def test_euclidean_loss_by_hand():
    body = (
        'layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 2 dim: 1 dim: 1 dim: 2 } } }'
        'layer { name: "l" type: "EuclideanLoss" bottom: "x" bottom: "t" top: "l" }'
        'layer { name: "m" type: "EuclideanLoss" bottom: "x" bottom: "t" top: "m" loss_weight: 3 }'
    )
    x, t = torch.tensor([[[[1.0, 2.0]]], [[[3.0, 4.0]]]]), torch.tensor([[[[0.0, 0.0]]], [[[3.0, 6.0]]]])
    net = net_of(body, (2, 1, 1, 2))
    blobs = net(x=x, t=t)
    assert blobs["l"].item() == (1 + 4 + 0 + 4) / 2 / 2
    assert net.objective(blobs).item() == 2.25 * 4


def test_silence_and_bias_by_hand():
    body = (
        'layer { name: "b" type: "Bias" bottom: "x" top: "y" bias_param { filler { value: 2 } } }'
        'layer { name: "z" type: "Silence" bottom: "y" }'
    )
    blobs = run(body, (1, 2, 1, 1), x=torch.tensor([[[[1.0]], [[5.0]]]]))
    assert set(blobs) == {"x", "y"}
    assert blobs["y"].flatten().tolist() == [3.0, 7.0]


def test_lrn_offset_by_hand():
    """OpenCV's importer ignores k. Channels 1, 2, 3; window of 3; k 2, alpha 3: 2 + sum of squares."""
    body = simple("LRN", "lrn_param { local_size: 3 alpha: 3 beta: 1 k: 2 }")
    y = run(body, (1, 3, 1, 1), x=torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1))["y"]
    np.testing.assert_allclose(y.flatten().numpy(), [1 / 7, 2 / 16, 3 / 15], rtol=1e-6)


def test_shared_prelu_by_hand():
    """One slope for all channels, a blob without axes in Caffe (OpenCV's importer refuses such a blob)."""
    net = net_of(simple("PReLU", "prelu_param { channel_shared: true filler { value: 0.5 } }"), (1, 2, 1, 1))
    y = net(x=torch.tensor([[[[-2.0]], [[3.0]]]]))["y"]
    assert y.flatten().tolist() == [-1.0, 3.0]
    assert net.weights()["y"][0].shape == ()


def test_dropout_in_training_keeps_the_mean_and_doubles_survivors():
    body = simple("Dropout", top='top: "x"')
    torch.manual_seed(0)
    y = run(body, (1, 1, 100, 100), "TRAIN", x=torch.ones(1, 1, 100, 100))["x"]
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert abs(y.mean().item() - 1) < 0.05  # standard error 0.01
    torch.testing.assert_close(run(body, (1, 1, 2, 2), x=torch.ones(1, 1, 2, 2))["x"], torch.ones(1, 1, 2, 2))


def test_batch_norm_in_training_by_hand():
    """Values 1, 3: mean 2, variance 1; sums move to mean 2, unbiased variance 2, factor 1."""
    net = net_of(simple("BatchNorm", "batch_norm_param { eps: 0 }"), (2, 1, 1, 1), "TRAIN")
    y = net(x=torch.tensor([[[[1.0]]], [[[3.0]]]]))["y"]
    assert y.flatten().tolist() == [-1.0, 1.0]
    assert [blob.item() for blob in net.y.blobs()] == [2.0, 2.0, 1.0]
    net(x=torch.tensor([[[[1.0]]], [[[3.0]]]]))
    assert net.y.factor.item() == pytest.approx(1.999)
    assert net.y.mean.item() == pytest.approx(3.998)


def test_scale_by_a_second_blob():
    body = (
        'layer { name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param { global_pooling: true } }'
        'layer { name: "f" type: "Flatten" bottom: "p" top: "f" }'
        'layer { name: "y" type: "Scale" bottom: "x" bottom: "f" top: "y" scale_param { axis: 0 } }'
    )
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(run(body, (2, 3, 4, 4), x=x)["y"], x * x.amax((2, 3), keepdim=True))


def test_old_spellings_of_slice_and_concat():
    body = (
        'layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" slice_param { slice_dim: 2 } }'
        'layer { name: "y" type: "Concat" bottom: "b" bottom: "a" top: "y" concat_param { concat_dim: 2 } }'
    )
    x = torch.randn(1, 1, 4, 1)
    torch.testing.assert_close(run(body, (1, 1, 4, 1), x=x)["y"], x.roll(2, 2))


FILLERS = {
    "constant": ("value: 3", 3.0, 0.0),
    "gaussian": ("mean: 1 std: 0.5", 1.0, 0.5),
    "uniform": ("min: -1 max: 3", 1.0, 4 / math.sqrt(12)),
    "xavier": ("", 0.0, math.sqrt(1 / 50)),  # fan_in 2 * 25 of the weight (400, 2, 5, 5)
    "msra": ("variance_norm: FAN_OUT", 0.0, math.sqrt(2 / 10_000)),
    "gaussian sparse": ("sparse: 100", 0.0, 0.5),
}


@pytest.mark.parametrize("case", FILLERS)
def test_fillers(case):
    settings, mean, std = FILLERS[case]
    kind = case.split()[0]
    net = net_of(
        simple(
            "Convolution",
            "convolution_param { num_output: 400 kernel_size: 5 "
            f'weight_filler {{ type: "{kind}" {settings} }} }}',
        ),
        (1, 2, 9, 9),
        seed=0,
    )
    weight = net.y.weight.detach()
    assert weight.shape == (400, 2, 5, 5)
    # 20,000 draws: standard error std / 141
    assert weight.mean().item() == pytest.approx(mean, abs=5 * std / 141 + 1e-7)
    assert weight.std().item() == pytest.approx(std, rel=0.03)
    assert net.y.bias.abs().max() == 0


def test_bilinear_filler_enlarges_a_ramp():
    body = simple(
        "Deconvolution",
        "convolution_param { num_output: 1 kernel_size: 4 stride: 2 pad: 1 bias_term: false "
        'weight_filler { type: "bilinear" } }',
    )
    x = torch.arange(5.0).expand(1, 1, 5, 5)
    y = run(body, (1, 1, 5, 5), x=x)["y"]
    np.testing.assert_allclose(y[0, 0, 5, 1:-1].detach().numpy(), np.arange(8) * 0.5 + 0.25, rtol=1e-6)


BAD = {
    "unknown type": (
        simple("Convolusion"),
        r"layer 'y': unknown layer type 'Convolusion'; known: .*Convolution",
    ),
    "no kernel": (simple("Convolution", "convolution_param { num_output: 3 }"), "kernel_size is missing"),
    "no outputs": (simple("Convolution", "convolution_param { kernel_size: 3 }"), "do not fit"),
    "group": (
        simple("Convolution", "convolution_param { num_output: 4 kernel_size: 1 group: 4 }"),
        "do not fit",
    ),
    "stride 0": (
        simple("Convolution", "convolution_param { num_output: 4 kernel_size: 1 stride: 0 }"),
        "stride must be at least 1",
    ),
    "3-D": (
        simple("Convolution", "convolution_param { num_output: 1 kernel_size: [1, 1, 1] }"),
        "only two-dimensional",
    ),
    "kernel too large": (
        simple("Convolution", "convolution_param { num_output: 4 kernel_size: 99 }"),
        "smaller than the kernel",
    ),
    "pool too large": (simple("Pooling", "pooling_param { kernel_size: 99 }"), "too small for the kernel"),
    "pool padding": (simple("Pooling", "pooling_param { kernel_size: 2 pad: 2 }"), "must be smaller than"),
    "pool stochastic": (simple("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 }"), "stochastic"),
    "empty window": (simple("Pooling", "pooling_param { kernel_size: 1 stride: 7 }"), "would be empty"),
    "even LRN": (simple("LRN", "lrn_param { local_size: 4 }"), "odd"),
    "vast LRN": (simple("LRN", "lrn_param { local_size: 4294967295 }"), "at most 65535"),
    "filler": (
        simple(
            "Convolution",
            'convolution_param { num_output: 1 kernel_size: 1 weight_filler { type: "gauss" } }',
        ),
        "unknown filler 'gauss'",
    ),
    "huge": (
        simple("Convolution", "convolution_param { num_output: 2000000000 kernel_size: 3 }"),
        "more than 536870912 parameters",
    ),
    "two bottoms": (simple("ReLU", bottoms='bottom: "x" bottom: "x"'), "wants 1 bottoms, got 2"),
    "no top": (simple("ReLU", top=""), "wants 1 tops, got 0"),
    "slice points": (
        simple("Slice", "slice_param { slice_point: 9 }", top='top: "a" top: "b"'),
        r"slice points \[9\] do not fit",
    ),
    "slice count": (simple("Slice", "slice_param { slice_point: 2 }", top='top: "a"'), "want 0 slice points"),
    "unequal parts": (simple("Slice", top='top: "a" top: "b" top: "c" top: "d"'), "does not divide by 4"),
    "axis": (simple("Softmax", "softmax_param { axis: 7 }"), "axis 7 does not exist"),
    "coefficients": (
        simple("Eltwise", "eltwise_param { coeff: 1 }", bottoms='bottom: "x" bottom: "x"'),
        "1 coefficients for 2 bottoms",
    ),
    "reshape": (simple("Reshape", "reshape_param { shape { dim: 7 } }"), "does not fit shape"),
    "dropout": (simple("Dropout", "dropout_param { dropout_ratio: 1.5 }"), "dropout_ratio"),
    "scale": (simple("Scale", "scale_param { axis: 2 num_axes: 5 }"), "do not fit shape"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_layers_are_named(case):
    body, wanted = BAD[case]
    with pytest.raises(UserError, match=wanted):
        net_of(body)
