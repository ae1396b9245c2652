"""What Caffe does or refuses in less travelled corners: sharing, gradients, in-place tops, odd settings."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from cpm_repro.caffe.net import CaffeNet
from cpm_repro.caffe.prototxt import parse_prototxt
from cpm_repro.caffe.resume import history_of, restore_history
from cpm_repro.caffe.sgd import CaffeSGD
from cpm_repro.caffe.solverstate import SolverState
from cpm_repro.errors import UserError

INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } } }'


def build(text: str, *args, **kwargs) -> CaffeNet:
    return CaffeNet(parse_prototxt(INPUT + text), *args, **kwargs)


def conv(name: str, value: float, param: str, outputs: int = 2, bottom: str = "x", more: str = "") -> str:
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" param {{ {param} }} '
        f"{more} convolution_param {{ num_output: {outputs} kernel_size: 1 bias_term: false "
        f'weight_filler {{ type: "constant" value: {value} }} }} }}'
    )


def test_shared_arrays_take_the_first_layers_filler():
    net = build(conv("a", 3, 'name: "w"') + conv("b", 5, 'name: "w"'))
    assert net.a.weight is net.b.weight
    assert net.b.weight.unique().tolist() == [3]


def product(name: str, bottom: str, outputs: int, value: float, transpose: str = "") -> str:
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" '
        f'param {{ name: "w" share_mode: PERMISSIVE }} inner_product_param {{ num_output: {outputs} '
        f'bias_term: false {transpose} weight_filler {{ type: "constant" value: {value} }} }} }}'
    )


def test_permissive_sharing_is_one_array_in_two_shapes(tmp_path):
    """(4, 32) and (32, 4): the same 128 numbers in row-major order, in gradients, files and copies too."""
    net = build(product("a", "x", 4, 1) + product("b", "a", 32, 9), seed=0)
    assert net.a.weight.shape == (4, 32)
    assert net.b.weight.shape == (32, 4)
    assert len(list(net.parameters())) == len(net.param_groups()) == 1
    with torch.no_grad():
        net.a.weight.copy_(torch.randn(4, 32))
    twin = copy.deepcopy(net)
    with torch.no_grad():
        net.a.weight.zero_()
    assert net.b.weight.abs().max() == 0
    assert twin.b.weight.abs().max() > 0
    x = torch.randn(1, 2, 4, 4)
    w = twin.a.weight.detach().clone().requires_grad_()
    wanted = (x.flatten(1) @ w.t()) @ w.reshape(32, 4).t()
    got = twin(x=x)["b"]
    torch.testing.assert_close(got, wanted)
    got.square().sum().backward()
    wanted.square().sum().backward()
    torch.testing.assert_close(twin.a.weight.grad, w.grad)
    twin.save(tmp_path / "x.caffemodel")
    net.load(tmp_path / "x.caffemodel")
    assert torch.equal(net.b.weight, twin.b.weight)
    with pytest.raises(UserError, match=r"layer 'b': shares 'w' of shape \[4, 32\], but wants \[9, 4\]"):
        build(product("a", "x", 4, 1) + product("b", "a", 9, 1))


def test_shared_multipliers_merge_and_must_agree():
    net = build(conv("a", 1, 'name: "w" decay_mult: 0') + conv("b", 1, 'name: "w" lr_mult: 7'))
    (group,) = net.param_groups()
    assert (group["name"], group["lr_mult"], group["decay_mult"]) == ("a.weight", 7, 0)
    with pytest.raises(UserError, match="layer 'b': shares 'w' with lr_mult 2, but has 7"):
        build(conv("a", 1, 'name: "w" lr_mult: 2') + conv("b", 1, 'name: "w" lr_mult: 7'))


def test_what_lr_mult_0_keeps_still_has_no_gradient():
    """Caffe makes none, so that clip_gradients does not count it and nothing is computed below it."""
    net = build(conv("a", 1, "lr_mult: 0") + conv("b", 1, "lr_mult: 3"))
    net(x=torch.ones(1, 2, 4, 4))["b"].sum().backward()
    assert net.a.weight.grad is None
    assert net.b.weight.grad is not None
    assert [g["lr_mult"] for g in net.param_groups()] == [0, 3]


def test_propagate_down_false_stops_the_gradient():
    text = conv("a", 1, "") + conv("b", 1, "", bottom="a", more="propagate_down: {}")
    for word, reached in (("true", True), ("false", False)):
        net = build(text.replace("{}", word))
        net(x=torch.ones(1, 2, 4, 4))["b"].sum().backward()
        assert (net.a.weight.grad is not None) == reached
        assert net.b.weight.grad is not None


BATCH_NORM = 'layer { name: "n" type: "BatchNorm" bottom: "a" top: "a" }' + (
    'layer { name: "s" type: "Scale" bottom: "a" top: "a" scale_param { bias_term: true } }'
)


def test_snapshots_with_batch_norm_have_momentum_for_its_statistics():
    """Caffe's solver keeps an array for each blob: weight, mean, variance, factor, scale, bias."""
    net = build(conv("a", 1, "") + BATCH_NORM, "TRAIN")
    assert [(g["name"], g["lr_mult"]) for g in net.param_groups()] == [
        ("a.weight", 1), ("n.mean", 0), ("n.variance", 0), ("n.factor", 0), ("s.weight", 1), ("s.bias", 1),
    ]  # fmt: skip
    optimizer = CaffeSGD(net.param_groups(), lr=1.0)
    shapes = [tuple(a.shape) for a in history_of(optimizer)]
    assert shapes == [(2, 2, 1, 1), (2,), (2,), (1,), (2,), (2,)]
    assert restore_history(optimizer, SolverState(4, [np.zeros(s, np.float32) for s in shapes])) == 4
    net(x=torch.randn(1, 2, 4, 4))["a"].square().sum().backward()
    before = net.n.mean.clone()
    optimizer.step()
    assert torch.equal(net.n.mean, before)
    assert net.n.mean.abs().max() > 0
    with pytest.raises(UserError, match="layer 'n': BatchNorm's arrays are no learned ones"):
        build(conv("a", 1, "") + BATCH_NORM.replace('top: "a" }', 'top: "a" param { lr_mult: 1 } }', 1))


LOSS = (
    'layer {{ name: "y" type: "Input" top: "y" input_param {{ shape {{ {} }} }} }}'
    'layer {{ name: "z" type: "Input" top: "z" input_param {{ shape {{ {} }} }} }}'
    'layer {{ name: "l" type: "EuclideanLoss" bottom: "y" bottom: "z" top: "l" }}'
)


def test_loss_of_a_single_number_is_refused():
    with pytest.raises(UserError, match="layer 'l': wanted blobs with a batch axis"):
        build(LOSS.format("", ""))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (torch.zeros(1, 2, 4, 4, dtype=torch.uint8), "input 'x': wanted floats, got uint8"),
        (np.zeros((1, 2, 4, 4), np.int64), "input 'x': wanted floats, got int64"),
        (torch.zeros(1, 2, 4, 4, dtype=torch.complex64), "input 'x': wanted floats, got complex64"),
        ("photo.jpg", "input 'x': wanted a tensor or array, got str"),
        (None, "input 'x': wanted a tensor or array, got NoneType"),
        (np.zeros((0, 2, 4, 4), np.float32), r"got \[0, 2, 4, 4\]"),
    ],
)
def test_inputs_that_are_no_floats(value, wanted):
    with pytest.raises(UserError, match=wanted):
        build(conv("a", 1, ""))(x=value)


def test_other_floats_are_taken_in_the_nets_dtype():
    """NumPy's default is float64; Caffe's blobs hold float32."""
    net = build(conv("a", 1, ""))
    assert net(x=np.ones((1, 2, 4, 4)))["a"].dtype == torch.float32
    assert net.double()(x=torch.ones(1, 2, 4, 4))["a"].dtype == torch.float64


def layer(kind: str, params: str = "", top: str = "y", bottom: str = 'bottom: "x"') -> str:
    return f'layer {{ name: "y" type: "{kind}" {bottom} top: "{top}" {params} }}'


def reads(name: str) -> str:
    return f'layer {{ name: "{name}" type: "Power" bottom: "x" top: "{name}" }}'


CONVOLUTION = "convolution_param {{ num_output: 2 kernel_size: 1 {} }}"
REFUSED = {
    "kernel twice": (
        layer("Convolution", CONVOLUTION.format("kernel_h: 1 kernel_w: 1")),
        "wanted kernel_size or kernel_h and kernel_w, got both",
    ),
    "stride twice": (layer("Convolution", CONVOLUTION.format("stride: 1 stride_h: 1 stride_w: 1")), "both"),
    "pool kernel twice": (
        layer("Pooling", "pooling_param { kernel_size: 2 kernel_h: 2 kernel_w: 2 }"),
        "both",
    ),
    "half a pool pad": (
        layer("Pooling", "pooling_param { kernel_size: 2 pad_h: 1 }"),
        "pad_h and pad_w together",
    ),
    "global with kernel": (
        layer("Pooling", "pooling_param { kernel_size: 2 global_pooling: true }"),
        "leaves no choice",
    ),
    "global with pad": (
        layer("Pooling", "pooling_param { pad: 1 global_pooling: true }"),
        "leaves no choice",
    ),
    "global with stride": (
        layer("Pooling", "pooling_param { stride: 2 global_pooling: true }"),
        "leaves no choice",
    ),
    "concat twice": (
        layer("Concat", "concat_param { axis: 1 concat_dim: 1 }"),
        "axis or concat_dim, got both",
    ),
    "slice twice": (layer("Slice", "slice_param { axis: 1 slice_dim: 1 }"), "axis or slice_dim, got both"),
    "coefficients of a product": (
        layer("Eltwise", "eltwise_param { operation: PROD coeff: 1 coeff: 1 }", bottom='bottom: "x" ' * 2),
        "for a PROD",
    ),
    "negative num_axes": (layer("Scale", "scale_param { num_axes: -2 }"), "do not fit shape"),
    "param entries": (layer("ReLU", "param { lr_mult: 1 }"), "wanted 0 param entries or none, got 1"),
    "loss weights": (layer("ReLU", "loss_weight: [1, 1]"), "wanted 1 loss_weight or none, got 2"),
    "propagate_down": (
        layer("ReLU", "propagate_down: [true, true]"),
        "wanted 1 propagate_down or none, got 2",
    ),
    "convolution in place": (layer("Convolution", CONVOLUTION.format(""), top="x"), "cannot work in place"),
    "reshape in place": (
        layer("Reshape", "reshape_param { shape { dim: -1 } }", top="x"),
        "cannot work in place",
    ),
    "flatten in place": (layer("Flatten", top="x"), "cannot work in place"),
    "split in place": (layer("Split", top="x"), "cannot work in place"),
    "in place beside a reader": (
        reads("p") + layer("ReLU", top="x"),
        "it changes 'x' in place, which 'p' reads too",
    ),
    "two inputs of one name": (
        'input: "i" input: "i" input_shape { dim: 1 } input_shape { dim: 1 }',
        "two inputs have",
    ),
    "gaussian without spread": (
        layer("Convolution", CONVOLUTION.format('weight_filler { type: "gaussian" std: 0 }')),
        "std > 0",
    ),
    "sparse uniform": (
        layer("Convolution", CONVOLUTION.format('weight_filler { type: "uniform" sparse: 1 }')),
        "wanted sparse >= 0, and of a gaussian",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_on_which_caffe_aborts(case):
    body, wanted = REFUSED[case]
    with pytest.raises(UserError, match=wanted) as caught:
        build(body)
    assert "\n" not in str(caught.value)


def test_settings_that_caffe_takes():
    x = torch.randn(1, 2, 4, 4)
    top = layer("Eltwise", "eltwise_param { operation: MAX coeff: 5 coeff: 5 }", bottom='bottom: "x" ' * 2)
    assert torch.equal(build(top)(x=x)["y"], x)  # MAX ignores its coefficients
    assert torch.equal(build(layer("Dropout", "dropout_param { dropout_ratio: 0 }"), "TRAIN")(x=x)["y"], x)
    assert build(layer("Convolution", CONVOLUTION.format("axis: -3")))(x=x)["y"].shape == (1, 2, 4, 4)
    after = layer("ReLU", top="x") + reads("p")  # what comes after an in-place layer reads its result
    assert torch.equal(build(after)(x=x)["p"], x.relu())


def test_windows_are_dropped_on_both_axes_when_either_is_padded():
    """Kernel 1, stride 3 on 5: ceil(4/3)+1 = 3 windows at 0, 3, 6; the third begins past the blob.

    Padding on the columns alone makes Caffe drop it on the rows too; without any padding it would pool an
    empty window there, which is refused.
    """
    shape = 'layer { name: "q" type: "Input" top: "q" input_param { shape { dim: 1 dim: 1 dim: 5 dim: 5 } } }'
    pool = (
        'layer {{ name: "y" type: "Pooling" bottom: "q" top: "y" pooling_param {{ kernel_h: 1 kernel_w: 2 '
        "stride_h: 3 stride_w: 1 {} }} }}"
    )
    rows = torch.arange(25.0).view(1, 1, 5, 5)
    y = build(shape + pool.format("pad_h: 0 pad_w: 1"))(["y"], q=rows)["y"]
    assert y[0, 0].tolist() == [[0, 1, 2, 3, 4, 4], [15, 16, 17, 18, 19, 19]]
    with pytest.raises(UserError, match="would be empty"):
        build(shape + pool.format(""))


def deconvolve(x, weight, stride, pad, dilation, group):
    """Deconvolution from its definition: every input cell adds its weighted kernel to the output."""
    n, channels, height, width = x.shape
    outs, kh, kw = weight.shape[1:]
    extent = (stride * (height - 1) + dilation * (kh - 1) + 1, stride * (width - 1) + dilation * (kw - 1) + 1)
    y = np.zeros((n, outs * group, *extent))
    for c in range(channels):
        part = c // (channels // group)
        for o in range(outs):
            for i, j in np.ndindex(kh, kw):
                rows = slice(i * dilation, i * dilation + stride * (height - 1) + 1, stride)
                columns = slice(j * dilation, j * dilation + stride * (width - 1) + 1, stride)
                y[:, part * outs + o, rows, columns] += weight[c, o, i, j] * x[:, c]
    return y[:, :, pad : extent[0] - pad, pad : extent[1] - pad]


@pytest.mark.parametrize(
    ("stride", "pad", "dilation", "group"), [(2, 1, 1, 2), (1, 0, 2, 1), (3, 2, 2, 2), (2, 0, 3, 4)]
)
def test_deconvolution_with_groups_and_dilation_by_its_definition(stride, pad, dilation, group):
    head = 'layer { name: "q" type: "Input" top: "q" input_param { shape { dim: 2 dim: 4 dim: 5 dim: 3 } } }'
    net = build(
        head
        + 'layer { name: "y" type: "Deconvolution" bottom: "q" top: "y" convolution_param { num_output: 8 '
        f"kernel_size: 3 stride: {stride} pad: {pad} dilation: {dilation} group: {group} "
        "bias_term: false } }"
    )
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 4, 5, 3)), rng.standard_normal((4, 8 // group, 3, 3))
    net.double().load({"y": [weight]})
    got = net(["y"], q=x)["y"].detach().numpy()
    np.testing.assert_allclose(
        got, deconvolve(x, weight, stride, pad, dilation, group), rtol=1e-10, atol=1e-12
    )


def test_inner_product_transposed_by_hand():
    """transpose: the weight is (inputs, outputs); 1*1 + 2*3 = 7 and 1*2 + 2*4 = 10, plus the bias."""
    net = CaffeNet(
        parse_prototxt(
            'input: "x" input_shape { dim: 1 dim: 2 } layer { name: "y" type: "InnerProduct" bottom: "x" '
            'top: "y" inner_product_param { num_output: 2 transpose: true bias_filler { value: 0.5 } } }'
        )
    )
    assert net.y.weight.shape == (2, 2)
    net.load({"y": [np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0.5, 0.5])]})
    assert net(x=torch.tensor([[1.0, 2.0]]))["y"].tolist() == [[7.5, 10.5]]


def test_positive_unitball_filler():
    net = build(
        layer("Convolution", CONVOLUTION.format('weight_filler { type: "positive_unitball" }')), seed=0
    )
    assert net.y.weight.min() >= 0
    assert net.y.weight.sum((1, 2, 3)).tolist() == pytest.approx([1, 1])
    assert not math.isclose(net.y.weight[0, 0].item(), 0.5, rel_tol=1e-3)
