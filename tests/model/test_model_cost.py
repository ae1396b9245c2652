"""Parameter counts, multiply-adds, sizes and receptive fields, by formula and measured."""

import math

import pytest
import torch
from model_helpers import spec_networks
from torch.utils.flop_counter import FlopCounterMode

from cpm_repro.config import ARCHITECTURES
from cpm_repro.model import (
    build,
    describe,
    describe_training,
    measured_receptive_field,
    multiply_accumulates,
    output_sizes,
    parameter_count,
    receptive_field,
    training_operations,
)

SPEC = spec_networks()


@pytest.mark.parametrize("arch", SPEC)
def test_derived_numbers_equal_the_spec(arch):
    net, derived = describe(arch), SPEC[arch]["derived"]
    assert parameter_count(net) == derived["parameters"]
    assert multiply_accumulates(net) == derived["multiply_accumulates_at_input_shape"]
    sizes = output_sizes(net)
    assert {blob: list(sizes[blob]) for blob in derived["output_sizes"]} == derived["output_sizes"]
    assert receptive_field(net) == derived["receptive_field_px"]


def test_parameter_counts_of_the_readme():
    assert parameter_count(describe("mpii_6stage")) == 31_219_866
    tiny = build("tiny")
    assert parameter_count(tiny.description) == sum(p.numel() for p in tiny.parameters()) == 1_131_933


def test_the_papers_receptive_fields_assume_2x2_pooling():
    """Paper, figure 2: 9, 26, 60, 96, 160 in stage 1, 240, 320, 400 in stage 2."""
    paper = receptive_field(describe("mpii_6stage"), max_pool_kernel=2)
    assert [paper[f"conv{i}_stage1"] for i in (1, 2, 3, 4, 5)] == [9, 26, 60, 96, 160]
    assert [paper[f"Mconv{i}_stage2"] for i in (1, 2, 3)] == [240, 320, 400]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_measured_fields_equal_the_formula_at_every_layer(arch):
    """Support of the gradient of one cell, of all stages, on an image that holds the whole of it."""
    measured = measured_receptive_field(arch)
    formula = receptive_field(describe(arch))
    assert list(measured) == [layer.name for layer in describe(arch).convolutions]
    assert measured == {name: (field, field) for name, field in formula.items()}


@pytest.mark.parametrize(
    ("pool", "stage1", "stage2"),
    [(None, [9, 27, 63, 103, 167], [247, 327, 407]), (2, [9, 26, 60, 96, 160], [240, 320, 400])],
)
def test_the_fields_of_release_and_paper_measured(pool, stage1, stage2):
    names = [*(f"conv{i}_stage1" for i in (1, 2, 3, 4, 5)), *(f"Mconv{i}_stage2" for i in (1, 2, 3))]
    measured = measured_receptive_field("mpii_6stage", names, stages=2, max_pool_kernel=pool)
    assert [measured[name] for name in names] == [(field, field) for field in (*stage1, *stage2)]


def test_multiply_accumulates_count_what_runs():
    """Against the convolutions' own shapes during a real forward pass, whole and cut short."""
    net = build("flic_4stage", width=0.05).eval()
    for stages in (1, 2, 4):
        counted = 0

        def count(module, _given, output):
            nonlocal counted
            counted += output[0, 0].numel() * module.weight.numel()

        hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
        net(torch.zeros(1, 4, 40, 48), stages=stages)
        for hook in hooks:
            hook.remove()
        assert multiply_accumulates(net.description, 40, 48, stages=stages) == counted
    with pytest.raises(ValueError, match="stages"):
        multiply_accumulates(net.description, stages=5)


@pytest.mark.parametrize("arch", ["flic_4stage", "tiny", "person_4stage"])
def test_training_operations_are_those_that_pytorch_makes(arch):
    """By its own counter over a forward and a backward pass; nobody asks for the picture's gradient."""
    net = build(arch, width=0.05)
    with FlopCounterMode(display=False) as counter:
        maps = net(torch.zeros(1, net.input_channels, 40, 48))
        sum(belief.sum() for belief in maps).backward()
    assert training_operations(net.description, 40, 48) == counter.get_total_flops()


def test_training_layers_have_sizes_too():
    net = describe_training("mpii_6stage")
    assert output_sizes(net)["Mconv5_stage6"] == (15, 46, 46)
    assert net.channels()["label_1st_lower"] == 15
    assert parameter_count(net) == parameter_count(describe("mpii_6stage"))
    assert receptive_field(net) == receptive_field(describe("mpii_6stage"))


def test_sizes_that_do_not_fit_name_the_layer():
    with pytest.raises(
        ValueError, match=r"concat_stage2.*conv4_stage2 13x13.*pool_center_lower 14x14|concat_stage2"
    ):
        output_sizes(describe("mpii_6stage"), 106, 106)
    with pytest.raises(ValueError, match="pool2_stage1"):
        output_sizes(describe("mpii_6stage"), 2, 2)
    assert math.prod(output_sizes(describe("person_4stage"), 1, 1)["conv6_2_CPM"]) == 1
