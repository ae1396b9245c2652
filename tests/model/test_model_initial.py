"""First values: Caffe's fillers and the He-normal scheme."""

import math

import pytest
import torch

from cpm_repro.errors import UserError
from cpm_repro.model import build, initialise


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_build_fills_as_caffe_does():
    net = build("tiny", generator=generator(0))
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        elif parameter.numel() > 5000:
            # sampling error of a standard deviation is 1 / sqrt(2 n): under 1 % here, five of them allowed
            assert parameter.std().item() == pytest.approx(0.01, rel=0.05)
            assert abs(parameter.mean().item()) < 5 * 0.01 / math.sqrt(parameter.numel())


def test_networks_are_float32_whatever_the_default_is():
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        net = build("tiny", stages=1, width=0.05)
    finally:
        torch.set_default_dtype(default)
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}


def test_a_generator_makes_it_repeatable():
    one, same, other = (
        build("tiny", width=0.05, generator=generator(seed)).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)
    torch.manual_seed(5)
    first = build("tiny", width=0.05).state_dict()
    torch.manual_seed(5)
    assert all(
        torch.equal(value, first[key]) for key, value in build("tiny", width=0.05).state_dict().items()
    )


@pytest.mark.parametrize("arch", ["lsp_6stage", "tiny", "person_4stage"])
def test_kaiming_keeps_signals_alive_and_starts_from_an_empty_picture(arch):
    net = build(arch, stages=2, width=0.25)
    initialise(net, "kaiming", generator(0))
    for layer in net.description.convolutions:
        weight = net.layer(layer.name).weight
        if layer.name not in net.output_layers and weight.numel() > 5000:
            assert weight.std().item() == pytest.approx(math.sqrt(2 / weight[0].numel()), rel=0.05)
    last_hidden = {}
    for name in net.output_layers:
        net.layer(name).register_forward_hook(
            lambda _m, given, _o, name=name: last_hidden.update(
                {name: given[0].square().mean().sqrt().item()}
            )
        )
    data = torch.rand(2, net.input_channels, 64, 64, generator=generator(1)) - 0.5
    maps = net.eval()(data)
    # Caffe's filler leaves 2e-5 (lsp) and 9e-16 (tiny) in front of stage 1's last convolution
    assert all(value > 1e-2 for value in last_hidden.values())
    for stage in maps:
        assert stage[:, : net.parts].abs().max() < 0.05
        if net.maps > net.parts:
            assert (stage[:, -1] - 1).abs().max() < 0.05


def test_unknown_scheme():
    with pytest.raises(UserError, match="wanted one of caffe, kaiming"):
        initialise(build("tiny", width=0.01), "xavier")
