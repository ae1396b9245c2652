"""Text files: read strictly, written tidily, read back equal; the schema equals the published field table."""

from __future__ import annotations

import json
import time

import pytest
from google.protobuf.descriptor import FieldDescriptor
from support import golden

from cpm_repro.caffe.prototxt import (
    MAX_BYTES,
    format_prototxt,
    parse_prototxt,
    read_prototxt,
    read_solver,
    write_prototxt,
)
from cpm_repro.caffe.schema import message_class, new
from cpm_repro.errors import UserError

_TYPES = {
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
}


def test_schema_equals_the_published_field_table():
    table = json.loads(golden("caffe_fields.json").read_text())
    for name, rows in table["messages"].items():
        descriptor = message_class(name).DESCRIPTOR
        for number, label, kind, field_name, *rest in rows:
            field = descriptor.fields_by_name.get(field_name)
            if field is None:  # a parameter message that the table itself does not describe
                assert kind not in table["messages"], (name, field_name)
                continue
            assert field.number == number
            assert (label == "repeated") == isinstance(field.default_value, list)
            named = field.message_type or field.enum_type
            assert (named.name if named else _TYPES[field.type]) == kind
            default = [text.strip("'\"") for text in rest if text != "packed"]
            if default and field.enum_type:
                assert field.enum_type.values_by_number[field.default_value].name == default[0]
            elif default and isinstance(field.default_value, bool):
                assert field.default_value == (default[0] == "true")
            elif default and not isinstance(field.default_value, str):
                assert field.default_value == pytest.approx(float(default[0]))
            elif default:
                assert field.default_value == default[0]
            assert field.has_default_value == bool(default)
            assert field.GetOptions().packed == ("packed" in rest)


def test_enums_equal_the_published_table():
    for name, values in json.loads(golden("caffe_fields.json").read_text())["enums"].items():
        outer, _, inner = name.rpartition(".")
        file = message_class("NetParameter").DESCRIPTOR.file
        enum = (
            file.message_types_by_name[outer].enum_types_by_name[inner]
            if outer
            else file.enum_types_by_name[name]
        )
        assert {value.name: value.number for value in enum.values} == values


@pytest.mark.parametrize("name", ["deploy.prototxt", "train.prototxt", "deploy_v1.prototxt"])
def test_nets_survive_writing(name, tmp_path):
    net = read_prototxt(golden("caffemodel_sample") / name)
    write_prototxt(tmp_path / name, net, header=["a note"])
    assert read_prototxt(tmp_path / name) == net
    text = (tmp_path / name).read_text()
    assert text.startswith("# a note\n")
    assert max(map(len, text.splitlines())) <= 100


def test_solver_survives_writing(tmp_path):
    solver = read_solver(golden("caffemodel_sample") / "solver.prototxt")
    assert solver.lr_policy == "step"
    assert solver.base_lr == pytest.approx(1e-4)
    write_prototxt(tmp_path / "solver.prototxt", solver)
    assert read_solver(tmp_path / "solver.prototxt") == solver


def test_written_form_is_stable():
    net = new("NetParameter", name='a "quoted" name\\')
    net.layer.add(name="conv", type="Convolution", bottom=["x"], top=["y"])
    net.layer[0].param.add(lr_mult=5, decay_mult=0.25)
    net.layer[0].convolution_param.num_output = 3
    net.layer[0].convolution_param.weight_filler.std = 0.01
    net.layer[0].convolution_param.bias_term = False
    text = format_prototxt(net, before={"conv": "features"})
    assert text == (
        'name: "a \\"quoted\\" name\\\\"\n'
        "\n"
        "# features\n"
        "layer {\n"
        '  name: "conv" type: "Convolution" bottom: "x" top: "y"\n'
        "  param { lr_mult: 5 decay_mult: 0.25 }\n"
        "  convolution_param { num_output: 3 bias_term: false weight_filler { std: 0.01 } }\n"
        "}\n"
    )
    assert parse_prototxt(text) == net


def test_layer_parameters_of_every_float_read_back():
    for value in (8e-5, 0.333, 1e-8, 136106.0, 1e30, -0.1):
        solver = new("SolverParameter", base_lr=value)
        assert parse_prototxt(format_prototxt(solver), "SolverParameter") == solver


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('name: "x"\nlayer {\n  kernel: 3\n}', r"line 3, column 3: unknown field 'kernel' in LayerParameter"),
        ("layer { pooling_param {\n pool: MAXIMUM } }", r"line 2, column .*MAXIMUM"),
        ('layer { name: "a"', r"line 1, column .*syntax error"),
        ('layer { name: "a"\n name: "b" }', r"line 2, column .*multiple"),
        ("layer { convolution_param { pad: -1 } }", r"line 1, column .*-1"),
        ("input_dim: 99999999999", r"line 1, column .*out of range"),
        ("name: 3", r"line 1, column .*"),
        ("force_backward: maybe", r"line 1, column .*"),
        ("layer " + "{" * 100_000, r"line 1: nested deeper than 32"),
        ("input_dim: " + "[" * 100_000, r"line 1: nested deeper than 32"),
        ('name: "\udcff"', r"line 1, column 8: this is not UTF-8 text"),
        ("# a comment\nlayers {\n type:\udc80POOLING }", r"line 3, column 7: this is not UTF-8 text"),
        ("[type.googleapis.com/x] { }", r"line 1, column"),
    ],
)
def test_bad_text_is_refused_with_its_place(text, wanted):
    with pytest.raises(UserError, match=wanted) as caught:
        parse_prototxt(text, source="net.prototxt")
    message = str(caught.value)
    assert message.startswith("net.prototxt: ")
    assert "\n" not in message
    message.encode()  # printable


def test_brackets_in_strings_and_comments_do_not_count_as_nesting():
    text = "# " + "{" * 200 + '\nname: "' + "{" * 200 + '"'
    assert parse_prototxt(text).name == "{" * 200


def test_comments_may_be_in_any_encoding(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_bytes(b'# caf\xe9 \xb2\xe2\nname: "x"\n')
    assert read_prototxt(path).name == "x"


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*absent\.prototxt"):
        read_prototxt(tmp_path / "absent.prototxt")
    with pytest.raises(UserError, match="binary data"):
        read_prototxt(golden("caffemodel_sample") / "small_iter_3.caffemodel")
    huge = tmp_path / "huge.prototxt"
    with open(huge, "wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UserError, match="at most 16 MiB"):
        read_prototxt(huge)


def test_a_text_without_its_end_is_refused_at_once():
    """Every escaped quote was taken for the beginning of another text: the time grew with the square."""
    start = time.process_time()
    with pytest.raises(UserError, match="line 1, column 7"):
        parse_prototxt('name: "' + '\\"' * 100_000)
    assert time.process_time() - start < 10  # 0.1 s; 200 s before
