"""The checked-in prototxt files: equal to the generator's output, to the layer tables and to golden runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import golden

from cpm_repro.caffe.generate import REFERENCE_NETS, generate, stepsize
from cpm_repro.caffe.net import CaffeNet
from cpm_repro.caffe.prototxt import parse_prototxt, read_prototxt, read_solver
from cpm_repro.cli import main
from cpm_repro.errors import UserError
from cpm_repro.model import build as build_module

REFERENCE = Path(__file__).parents[2] / "protos_reference"


@pytest.mark.parametrize("arch", REFERENCE_NETS)
def test_checked_in_files_are_the_generators_output(arch, tmp_path):
    for path in generate(arch).write(tmp_path):
        assert path.read_text() == (REFERENCE / arch / path.name).read_text(), (
            f"{path.name} differs: regenerate protos_reference/{arch}"
        )


def fields_of(layer) -> dict:
    """A LayerParameter in the words of the layer tables, read independently of the generator."""
    row = {
        "name": layer.name,
        "type": layer.type,
        "bottom": list(layer.bottom),
        "top": list(layer.top),
    }
    if layer.type == "Convolution":
        param = layer.convolution_param
        row |= {
            "num_output": param.num_output,
            "pad": sum(param.pad),
            "kernel_size": sum(param.kernel_size),
            "weight_filler": {"type": param.weight_filler.type, "std": f"{param.weight_filler.std:g}"},
            "bias_filler": {"type": param.bias_filler.type},
            "lr_mult": [spec.lr_mult for spec in layer.param],
            "decay_mult": [spec.decay_mult for spec in layer.param],
        }
        assert param.bias_filler.value == 0
        assert not param.stride
        assert not param.dilation
        assert param.group == 1
    elif layer.type == "Pooling":
        param = layer.pooling_param
        row |= {
            "pool": "AVE" if param.pool == 1 else "MAX",
            "kernel_size": param.kernel_size,
            "stride": param.stride,
        }
        assert param.pad == 0
    elif layer.type == "Slice":
        row |= {"axis": layer.slice_param.axis, "slice_point": sum(layer.slice_param.slice_point)}
    elif layer.type == "Concat":
        row |= {"axis": layer.concat_param.axis}
    return row


@pytest.mark.parametrize("arch", REFERENCE_NETS)
def test_deploy_files_equal_the_layer_tables_field_by_field(arch):
    table = json.loads(golden("networks.json").read_text())[arch]
    net = read_prototxt(REFERENCE / arch / "pose_deploy.prototxt")
    first, *layers = net.layer
    assert (first.type, list(first.top)) == ("Input", [table["input"]["blob"]])
    assert list(first.input_param.shape[0].dim) == table["input"]["shape"]
    assert [fields_of(layer) for layer in layers] == table["layers"]


@pytest.mark.parametrize("arch", REFERENCE_NETS)
def test_parameters_and_sizes_equal_the_layer_tables(arch):
    derived = json.loads(golden("networks.json").read_text())[arch]["derived"]
    net = CaffeNet(REFERENCE / arch / "pose_deploy.prototxt")
    assert sum(parameter.numel() for parameter in net.parameters()) == derived["parameters"]


@pytest.mark.parametrize("arch", REFERENCE_NETS)
def test_training_files_add_data_losses_and_dropout_to_the_deploy_layers(arch):
    deploy = read_prototxt(REFERENCE / arch / "pose_deploy.prototxt")
    train = read_prototxt(REFERENCE / arch / "pose_train_test.prototxt")
    own = [layer for layer in train.layer if layer in deploy.layer]
    assert own == list(deploy.layer[1:])
    added = [layer for layer in train.layer if layer not in deploy.layer]
    stages = int(arch[-6]) if arch.endswith("stage") else 0
    losses = [layer for layer in added if layer.type == "EuclideanLoss"]
    assert [layer.name for layer in losses] == [f"loss_stage{i + 1}" for i in range(stages)]
    if arch == "person_4stage":
        assert {layer.bottom[1] for layer in losses} == {"label"}
        assert [layer.type for layer in added if layer not in losses] == ["HDF5Data"]
        return
    assert [layer.bottom[1] for layer in losses] == ["label_1st_lower"] + ["label_lower"] * (stages - 1)
    maps = 10 if arch == "flic_4stage" else 15
    data, label = added[:2]
    assert (data.name, data.type, list(data.top)) == ("data", "CPMData", ["data", "label"])
    assert (label.name, list(label.top)) == ("label_lower", ["label_lower", "label_1st_lower"])
    assert list(label.slice_param.slice_point) == [maps]
    assert (data.transform_param.num_parts, data.transform_param.np_in_lmdb) == (
        (9, 9) if maps == 10 else (14, 16)
    )
    drops = [(layer.name, layer.bottom[0], layer.top[0]) for layer in added if layer.type == "Dropout"]
    expected = [("drop1_stage1", "conv5_stage1"), ("drop2_stage1", "conv6_stage1")]
    assert drops == ([] if "vgg" in arch else [(name, blob, blob) for name, blob in expected])
    names = [layer.name for layer in train.layer]
    for name, _, _ in drops:
        assert names[names.index(name) - 1] == {"drop1_stage1": "relu5_stage1"}.get(name, "relu6_stage1")


def test_release_settings_of_the_data_layer():
    data = read_prototxt(REFERENCE / "mpii_6stage" / "pose_train_test.prototxt").layer[0]
    param = data.transform_param
    assert data.cpmdata_param.batch_size == 16
    assert (param.stride, param.crop_size_x, param.crop_size_y) == (8, 368, 368)
    assert param.target_dist == pytest.approx(1.171)
    assert (param.scale_prob, param.max_rotate_degree, param.center_perterb_max) == (1, 40, 0)
    assert (param.scale_min, param.scale_max) == (pytest.approx(0.7), pytest.approx(1.3))
    assert (param.flip_prob, param.sigma, param.sigma_center, param.do_clahe) == (0.5, 7, 21, False)


@pytest.mark.parametrize(
    ("arch", "step"),
    [("mpii_6stage", 136106), ("mpii_vgg_6stage", 136106), ("lsp_6stage", 57750), ("flic_4stage", 20931)],
)
def test_solver_values(arch, step):
    solver = read_solver(REFERENCE / arch / "pose_solver.prototxt")
    assert solver.base_lr == pytest.approx(8e-5)
    assert (solver.momentum, solver.weight_decay) == (pytest.approx(0.9), pytest.approx(5e-4))
    assert (solver.lr_policy, solver.gamma) == ("step", pytest.approx(0.333))
    assert (solver.max_iter, solver.snapshot, solver.display) == (600_000, 1000, 5)
    assert solver.stepsize == stepsize(arch) == step


@pytest.mark.parametrize("arch", REFERENCE_NETS)
def test_what_was_never_published_says_so(arch):
    texts = [(REFERENCE / arch / f"pose_{kind}.prototxt").read_text() for kind in ("train_test", "solver")]
    own = ["OUR OWN CHOICE" in texts[0], "OUR OWN CHOICE" in texts[1] or "OUR INFERENCE" in texts[1]]
    assert own == [arch != "mpii_6stage"] * 2


def test_other_numbers_of_stages_parts_and_width():
    files = generate("mpii_vgg_6stage", stages=2, parts=5, width=0.25)
    net = CaffeNet(parse_prototxt(files.deploy))
    assert net.inputs == {"data": (1, 4, 368, 368)}
    assert net.Mconv7_stage2.weight.shape == (6, 32, 1, 1)
    train = CaffeNet(parse_prototxt(files.train_test), "TRAIN")
    assert train.inputs["label"] == (16, 12, 46, 46)
    tiny = CaffeNet(parse_prototxt(generate("tiny").train_test), "TRAIN")
    assert tiny.inputs["data"][2:] == (128, 128)
    with pytest.raises(UserError, match="unknown architecture"):
        generate("mpii")


def test_the_command_takes_any_parts_stages_and_width(tmp_path, capsys):
    """Files of another network: they build, agree with our module layer by layer, and fit each other."""
    numbers = ["--parts", "21", "--stages", "3", "--width", "0.125"]
    assert main(["proto", "mpii_6stage", *numbers, "--out", str(tmp_path)]) == 0
    assert "pose_solver.prototxt" in capsys.readouterr().out
    deploy = CaffeNet(tmp_path / "pose_deploy.prototxt")
    module = build_module("mpii_6stage", parts=21, stages=3, width=0.125)
    assert {k: v.shape for k, v in deploy.state_dict().items()} == {
        k: v.shape for k, v in module.state_dict().items()
    }
    train = CaffeNet(tmp_path / "pose_train_test.prototxt", "TRAIN")
    assert train.inputs["label"] == (16, 44, 46, 46)
    assert set(train.state_dict()) == set(deploy.state_dict())
    assert main(["proto", "mpii_6stage", "--parts", "0", "--out", str(tmp_path)]) == 2
    assert "wanted parts to be a whole number of 1 to 1000, got 0" in capsys.readouterr().err
