"""CaffeNet as a whole: golden forward, phases, wiring, inputs, loading weights."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import torch
from support import golden

from cpm_repro.caffe.caffemodel import read_caffemodel, read_model, write_caffemodel
from cpm_repro.caffe.net import CaffeNet
from cpm_repro.caffe.prototxt import parse_prototxt, read_prototxt
from cpm_repro.errors import UserError

SAMPLE = "caffemodel_sample"
INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } } }'
CONV = (
    'layer { name: "c" type: "Convolution" bottom: "x" top: "y" '
    "convolution_param { num_output: 3 kernel_size: 1 } }"
)
RELU = 'layer { name: "r" type: "ReLU" bottom: "y" top: "y" } '
UNNAMED_POOL = 'layer { type: "Pooling" bottom: "y" top: "p" pooling_param { kernel_size: 2 } } '


def arrays() -> dict[str, np.ndarray]:
    return dict(np.load(golden(SAMPLE) / "weights.npz"))


def build(text: str, *args, **kwargs) -> CaffeNet:
    return CaffeNet(parse_prototxt(text), *args, **kwargs)


@pytest.mark.parametrize("deploy", ["deploy.prototxt", "deploy_v1.prototxt"])
@pytest.mark.parametrize("model", ["small_iter_3.caffemodel", "small_v1.caffemodel"])
def test_golden_forward_of_both_generations(deploy, model):
    net = CaffeNet(golden(SAMPLE) / deploy)
    net.load(golden(SAMPLE) / model)
    got = net(data=torch.from_numpy(arrays()["forward_input"]))["conv2"].detach().numpy()
    want = arrays()["forward_conv2"]
    assert np.abs(got - want).max() <= 1e-4 * np.ptp(want)  # measured 1.4e-6 on a range of 12


def test_golden_loss_of_the_training_net():
    net = CaffeNet(golden(SAMPLE) / "train.prototxt", "TRAIN")
    net.load(golden(SAMPLE) / "small_iter_3.caffemodel")
    stored = arrays()
    blobs = net(data=stored["input3"], label=stored["label3"])
    assert blobs["loss"].item() == pytest.approx(stored["loss_iter3"].item(), rel=1e-6)
    assert net.objective(blobs).item() == blobs["loss"].item()


def test_multipliers_come_from_either_generation():
    for name in ("train.prototxt", "deploy_v1.prototxt"):
        groups = CaffeNet(golden(SAMPLE) / name).param_groups()
        assert [(g["name"], g["lr_mult"], g["decay_mult"]) for g in groups] == [
            ("conv1.weight", 5, 1), ("conv1.bias", 10, 0), ("conv2.weight", 1, 1), ("conv2.bias", 2, 0),
        ]  # fmt: skip


def test_state_dict_is_named_by_layers():
    assert list(CaffeNet(golden(SAMPLE) / "deploy.prototxt").state_dict()) == [
        "conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias",
    ]  # fmt: skip


def test_awkward_layer_names():
    names = ("a.b", "a/b", "type", "forward", "inputs", "load", "")
    layers = "".join(f'layer {{ name: "{n}" type: "PReLU" bottom: "x" top: "x" }}' for n in names)
    net = build(INPUT + layers)
    assert {layer.name for layer, _ in net.steps()} == set(names)
    net.load(net.weights())
    net(x=torch.zeros(1, 2, 4, 4))


def test_wanted_blobs_need_only_their_inputs():
    net = build(
        INPUT
        + CONV
        + 'layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }'
        'layer { name: "l" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "l" }'
    )
    x = torch.randn(1, 2, 4, 4)
    assert list(net(["y"], x=x)) == ["y"]
    with pytest.raises(UserError, match=r"needs input 't', got x"):
        net(x=x)
    with pytest.raises(UserError, match="no blob z"):
        net(["z"], x=x)


def test_batch_and_size_may_differ_from_the_file():
    net = build(INPUT + CONV)
    assert net(x=torch.zeros(5, 2, 9, 7))["y"].shape == (5, 3, 9, 7)


@pytest.mark.parametrize(
    ("inputs", "wanted"),
    [
        ({"x": torch.zeros(1, 3, 4, 4)}, r"input 'x': wanted shape \[1, 2, 4, 4\].* got \[1, 3, 4, 4\]"),
        ({"x": torch.zeros(2, 4, 4)}, r"got \[2, 4, 4\]"),
        ({"z": torch.zeros(1)}, r"has no input 'z'; it has x"),
        ({}, "needs input 'x'"),
    ],
)
def test_bad_inputs_are_named(inputs, wanted):
    with pytest.raises(UserError, match=wanted):
        build(INPUT + CONV)(**inputs)


PHASES = INPUT + (
    'layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { shift: 1 } include { phase: TRAIN } }'
    'layer { name: "q" type: "Power" bottom: "x" top: "y" power_param { shift: 2 } exclude { phase: TRAIN } }'
    'layer { name: "s" type: "Power" bottom: "y" top: "y" power_param { scale: 10 } '
    '  include { stage: "big" not_stage: "no" } include { min_level: 3 max_level: 4 } }'
)


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"phase": "TRAIN"}, 1),
        ({"phase": "TEST"}, 2),
        ({"stages": ["big"]}, 20),
        ({"stages": ["big", "no"]}, 2),
        ({"level": 3}, 20),
        ({"level": 5}, 2),
    ],
)
def test_phase_level_and_stage_rules(options, value):
    assert build(PHASES, **options)(x=torch.zeros(1, 2, 4, 4))["y"].unique().tolist() == [value]


def test_shared_parameters_are_one_array():
    layer = (
        'layer {{ name: "{0}" type: "Convolution" bottom: "x" top: "{0}" param {{ name: "w" }} '
        "convolution_param {{ num_output: {1} kernel_size: 1 bias_term: false }} }}"
    )
    net = build(INPUT + layer.format("a", 2) + layer.format("b", 2), seed=1)
    assert net.a.weight is net.b.weight
    assert len(net.param_groups()) == 1
    with pytest.raises(UserError, match="layer 'b': shares 'w'"):
        build(INPUT + layer.format("a", 2) + layer.format("b", 3))


def test_old_style_inputs():
    net = build('input: "x" input_shape { dim: 1 dim: 2 dim: 4 dim: 4 }' + CONV)
    assert net.inputs == {"x": (1, 2, 4, 4)}
    for head, wanted in (
        ('input: "x" input_dim: 1', "wanted 4 input_dim for 1 inputs, got 1"),
        ('input: "x" input: "z" input_shape { dim: 1 }', "2 inputs but 1 input_shape"),
        ('input: "x"', "does not tell the shape of x"),
        ('input: "x" input_shape { dim: -1 dim: 2 }', "size below 1"),
        ('input: "x" input_shape { dim: 0 dim: 2 }', "size below 1"),
        ('input: "x" input_dim: [1, 2, 4, 4] input_shape { dim: 1 }', "got both"),
    ):
        with pytest.raises(UserError, match=wanted):
            build(f"{head} {CONV}")


def test_data_layers_tell_shapes_or_are_told():
    text = (
        'layer { name: "d" type: "CPMData" top: "x" top: "label" cpmdata_param { batch_size: 3 } '
        "transform_param { stride: 8 crop_size_x: 184 crop_size_y: 96 num_parts: 9 } }" + CONV
    )
    assert build(text).inputs == {"x": (3, 4, 96, 184), "label": (3, 20, 12, 23)}
    text = 'layer { name: "d" type: "HDF5Data" top: "x" top: "z" }' + CONV
    with pytest.raises(UserError, match=r"shape of x, z; give input_shapes="):
        build(text)
    assert build(text, input_shapes={"x": (1, 2, 4, 4), "z": (1, 1)}).inputs["z"] == (1, 1)
    with pytest.raises(UserError, match="no input w"):
        build(text, input_shapes={"w": (1,)})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (INPUT + CONV + CONV.replace('"y"', '"z"'), "two layers are called 'c', one of them with weights"),
        (INPUT + CONV + RELU.replace('"r"', '"c"'), "two layers are called 'c', one of them with weights"),
        (
            INPUT + CONV + UNNAMED_POOL + RELU.replace('name: "r"', ""),
            "it changes 'y' in place, which '' reads",
        ),
        (
            INPUT + CONV.replace('bottom: "x"', 'bottom: "w"'),
            "layer 'c': no earlier layer makes its bottom 'w'",
        ),
        (INPUT + CONV + CONV.replace('"c"', '"d"'), "layer 'd': its top 'y' was made before"),
        (INPUT + CONV.replace("convolution_param", "include { } exclude { } convolution_param"), "got both"),
        ("", "has no layers in phase TEST"),
        ('layers { name: "a" }', "layer 'a': an old-style layer without a type"),
        ('layer { name: "a" } layers { name: "b" }', "got both"),
        (
            INPUT
            + 'layer { name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param { kernel_size: 2 } }'
            'layer { name: "k" type: "Concat" bottom: "x" bottom: "p" top: "k" }',
            r"layer 'k': bottoms must agree .*\[1, 2, 4, 4\], \[1, 2, 3, 3\].*Caffe aborts",
        ),
    ],
)
def test_nets_that_caffe_refuses(text, wanted):
    with pytest.raises(UserError, match=wanted):
        build(text)


def test_layers_without_weights_may_have_one_name_or_none():
    names = [RELU, RELU, RELU.replace('name: "r"', ""), UNNAMED_POOL]
    net = build(INPUT + CONV + "".join(names))
    blobs = net(x=torch.randn(1, 2, 4, 4))
    assert torch.equal(blobs["p"], torch.nn.functional.max_pool2d(blobs["y"], 2, 1))
    assert blobs["y"].min() == 0


def test_a_layer_written_once_for_each_phase_is_stored_once(tmp_path):
    norm = (
        'layer {{ name: "n" type: "BatchNorm" bottom: "y" top: "y" include {{ phase: {} }} '
        "batch_norm_param {{ use_global_stats: {} }} }} "
    )
    text = INPUT + CONV + norm.format("TRAIN", "false") + norm.format("TEST", "true")
    net = build(text, "TRAIN", seed=0)
    net(x=torch.randn(1, 2, 4, 4))
    net.save(tmp_path / "a.caffemodel")
    (tmp_path / "net.prototxt").write_text(text)
    write_caffemodel(tmp_path / "b.caffemodel", net.weights(), tmp_path / "net.prototxt")
    for name in ("a.caffemodel", "b.caffemodel"):
        layers = [(layer.name, len(layer.blobs)) for layer in read_model(tmp_path / name).layers]
        assert layers == [("in", 0), ("c", 2), ("n", 3)]
        other = build(text, "TEST")
        assert other.load(tmp_path / name).untouched == []
        assert all(map(torch.equal, other.parameters(), net.parameters()))


def test_unknown_phase():
    with pytest.raises(UserError, match="wanted TRAIN or TEST"):
        CaffeNet(golden(SAMPLE) / "deploy.prototxt", "TESTING")


def test_loading_reports_what_it_left_alone():
    net = CaffeNet(golden(SAMPLE) / "deploy.prototxt", seed=0)
    before = net.conv2.weight.clone()
    weights = read_caffemodel(golden(SAMPLE) / "small_iter_3.caffemodel")
    report = net.load({"conv1": weights["conv1"], "extra": [np.zeros(3)]})
    assert (report.loaded, report.ignored, report.untouched) == (["conv1"], ["extra"], ["conv2"])
    assert "ignored (not in the net): extra" in str(report)
    assert torch.equal(net.conv2.weight, before)
    np.testing.assert_array_equal(net.conv1.bias.detach().numpy(), weights["conv1"][1])


def test_all_mismatches_are_listed():
    net = CaffeNet(golden(SAMPLE) / "deploy.prototxt", seed=0)
    wrong = {"conv1": [np.zeros((8, 4, 5, 5)), np.zeros(8)], "conv2": [np.zeros((4, 8, 3, 3))]}
    with pytest.raises(
        UserError,
        match=r"conv1: wanted \[8, 3, 5, 5\] and \[8\], got \[8, 4, 5, 5\] and \[8\]; "
        r"conv2: wanted \[4, 8, 3, 3\] and \[4\], got \[4, 8, 3, 3\]",
    ):
        net.load(wrong)
    report = net.load(wrong, skip_mismatched=True)
    assert report.loaded == []
    assert len(report.mismatched) == 2


def test_saved_weights_load_again(tmp_path):
    net = CaffeNet(golden(SAMPLE) / "train.prototxt", seed=4)
    net.save(tmp_path / "x.caffemodel")
    other = CaffeNet(golden(SAMPLE) / "deploy.prototxt", seed=5)
    assert other.load(tmp_path / "x.caffemodel").loaded == ["conv1", "conv2"]
    for key, value in net.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)


def test_gradients_reach_the_weights():
    net = CaffeNet(golden(SAMPLE) / "train.prototxt", "TRAIN", seed=4)
    stored = arrays()
    net.objective(net(data=stored["input0"], label=stored["label0"])).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_message_is_not_changed_by_building():
    message = read_prototxt(golden(SAMPLE) / "deploy.prototxt")
    copy = parse_prototxt(str(message))
    CaffeNet(message)
    assert message == copy


IMAGE_INPUT = 'input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }'


@pytest.mark.parametrize(
    "filler",
    [
        'type: "gaussian" std: -1',
        'type: "gaussian" std: nan',
        'type: "uniform" min: 2',
        'type: "uniform" max: inf',
    ],
)
def test_fillers_that_describe_no_distribution(tmp_path, filler):
    path = tmp_path / "net.prototxt"
    path.write_text(
        f"{IMAGE_INPUT} layer {{ name: 'c' type: 'Convolution' bottom: 'data' top: 'c' "
        f"convolution_param {{ num_output: 2 kernel_size: 1 weight_filler {{ {filler} }} }} }}"
    )
    with pytest.raises(UserError, match="filler: wanted finite numbers") as caught:
        CaffeNet(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["LRN", "BatchNorm"])
def test_layers_on_blobs_of_too_few_axes(tmp_path, kind):
    path = tmp_path / "net.prototxt"
    path.write_text(
        f"input: 'data' input_shape {{ dim: 1 }} layer {{ name: 'x' type: '{kind}' bottom: 'data' top: 'x' }}"
    )
    with pytest.raises(UserError, match="'x'"):
        CaffeNet(path)


@pytest.mark.parametrize("wanted", [torch.zeros(1, 2, 4, 4), "y", 3])
def test_inputs_go_by_name_and_blobs_in_a_list(wanted):
    with pytest.raises(TypeError, match=r"wanted a list of blob names, got .*; inputs go by name: x="):
        build(INPUT + CONV)(wanted)


def test_a_call_without_inputs_says_so():
    with pytest.raises(UserError, match="needs input 'x', got none"):
        build(INPUT + CONV)()


def test_a_state_dict_is_not_loaded_in_silence():
    """None of its names is a layer's: all layers kept their fillers."""
    net = build(INPUT + CONV)
    with pytest.raises(TypeError, match=r"wanted a list of arrays for layer .*, as in a state dict"):
        net.load(net.state_dict())


def test_a_net_goes_through_pickle():
    net, data = build(INPUT + CONV), torch.rand(1, 2, 4, 4)
    again = pickle.loads(pickle.dumps(net))
    assert torch.equal(again(x=data)["y"], net(x=data)["y"])
    assert again.message == net.message


def test_an_array_that_cannot_be_written_to_is_an_input_like_others():
    data = np.random.default_rng(0).random((1, 2, 4, 4), np.float32)
    net = build(INPUT + CONV)
    wanted = net(x=data)["y"]
    data.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(net(x=data)["y"], wanted)
