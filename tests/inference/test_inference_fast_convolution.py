"""Convolutions through tiles: what they give, what they leave alone, and when they are used."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from cpm_repro.inference import fast_convolution, tile_cost, tiled_fft
from cpm_repro.inference.fast_convolution import FastConv2d, fast_convolutions, spectrum_bytes
from cpm_repro.inference.tile_cost import TileShape, choose_tile
from cpm_repro.inference.tiled_fft import convolve, kernel_spectrum
from cpm_repro.model import build, load_by_name


def case(count, channels, outputs, height, width, kernel, seed=0):
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(count, channels, height, width, generator=generator)
    weight = torch.randn(outputs, channels, kernel, kernel, generator=generator) / channels**0.5 / kernel
    return data, weight, torch.randn(outputs, generator=generator)


def difference(got, data, weight, bias):
    """Largest difference from a float64 direct convolution, relative to its largest value."""
    bias = None if bias is None else bias.double()
    wanted = nn.functional.conv2d(data.double(), weight.double(), bias, padding=weight.shape[-1] // 2)
    assert got.shape == wanted.shape
    return float((got - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize(
    ("size", "tile"),
    [
        ((1, 8, 6, 46, 46, 11), 33),
        ((1, 8, 6, 46, 46, 11), 22),
        ((2, 3, 5, 17, 23, 9), 16),
        ((3, 5, 4, 15, 13, 9), 17),
        ((1, 1, 1, 1, 1, 5), 6),
        ((2, 4, 3, 5, 40, 7), 20),  # lower than a tile
        ((1, 6, 7, 31, 9, 5), 12),
    ],
)
def test_equals_the_direct_convolution(size, tile):
    data, weight, bias = case(*size)
    spectrum = kernel_spectrum(weight, tile)
    for layout in (torch.contiguous_format, torch.channels_last):
        got = convolve(data.contiguous(memory_format=layout), spectrum, bias, tile, size[-1])
        assert difference(got, data, weight, bias) < 2e-6  # measured: at most 3.4e-7
        assert got.is_contiguous(memory_format=torch.channels_last)
    assert difference(convolve(data, spectrum, None, tile, size[-1]), data, weight, None) < 2e-6


@pytest.mark.parametrize(("channels", "outputs", "side", "kernel", "tile"), [
    (32, 24, 46, 9, 20), (128, 16, 40, 11, 22), (16, 8, 30, 7, 18), (4, 4, 17, 9, 13),
])  # fmt: skip
def test_bfloat16_rounds_about_twice_as_coarsely_as_directly(channels, outputs, side, kernel, tile):
    """Of activations, which are not negative: their large mean is what a spectrum rounds worst."""
    data, weight, bias = case(2, channels, outputs, side, side, kernel)
    data = data.relu()
    wanted = nn.functional.conv2d(data, weight, bias, padding=kernel // 2)
    low = [tensor.bfloat16() for tensor in (data, weight, bias)]
    got = convolve(low[0], kernel_spectrum(low[1], tile), low[2], tile, kernel)
    direct = nn.functional.conv2d(*low, padding=kernel // 2)
    assert got.dtype == torch.bfloat16
    spread = [float((out.float() - wanted).std() / wanted.std()) for out in (got, direct)]
    assert spread[0] < 0.01  # measured: 0.0034 to 0.0047
    assert spread[0] < 2.5 * spread[1]  # measured: 1.5 to 1.9


def test_types_take_turns_in_one_workspace():
    data, weight, bias = case(1, 6, 5, 30, 33, 9)
    first = convolve(data, kernel_spectrum(weight, 16), bias, 16, 9)
    low = [tensor.bfloat16() for tensor in (data, weight, bias)]
    convolve(low[0], kernel_spectrum(low[1], 16), low[2], 16, 9)
    assert torch.equal(convolve(data, kernel_spectrum(weight, 16), bias, 16, 9), first)


def test_any_strides():
    data, weight, bias = case(2, 12, 5, 30, 42, 9)
    view = data[:, ::3, 3:, 1::2]
    got = convolve(view, kernel_spectrum(weight[:, ::3], 17), bias, 17, 9)
    assert difference(got, view, weight[:, ::3], bias) < 2e-6


@pytest.mark.parametrize("workspace", [1.0, 3e5, 1e6])
def test_a_small_workspace_gives_the_same(monkeypatch, workspace):
    """Tiles in parts, parts that begin and end in the middle of an image."""
    data, weight, bias = case(3, 6, 6, 40, 33, 9)
    monkeypatch.setattr(tiled_fft, "LARGEST_WORKSPACE", workspace)
    got = convolve(data, kernel_spectrum(weight, 16), bias, 16, 9)
    assert difference(got, data, weight, bias) < 2e-6


def test_an_empty_batch_is_convolved_directly():
    conv = fast_convolutions(nn.Sequential(nn.Conv2d(4, 4, 9, padding=4)))
    with torch.inference_mode():
        assert conv(torch.zeros(0, 4, 30, 30)).shape == (0, 4, 30, 30)


def released(arch, **options):
    """Weights that keep every layer's outputs of order 1, so that an error anywhere shows in the maps."""
    net = build(arch, **options)
    generator = torch.Generator().manual_seed(3)
    for weight in net.parameters():
        std = (2 / weight[0].numel()) ** 0.5 if weight.dim() == 4 else 0.05
        nn.init.normal_(weight, std=std, generator=generator)
    return net.eval()


@pytest.mark.parametrize(
    ("arch", "shape", "options"),
    [
        ("mpii_6stage", (1, 4, 136, 104), {}),
        ("mpii_6stage", (2, 4, 121, 105), {"stages": 2}),
        ("mpii_vgg_6stage", (2, 4, 125, 99), {"stages": 3}),
        ("person_4stage", (1, 3, 125, 99), {"stages": 2}),
    ],
)
def test_a_network_stays_what_it_is(arch, shape, options):
    net = released(arch, **options)
    data = torch.rand(shape, generator=torch.Generator().manual_seed(1)) - 0.5
    with torch.inference_mode():
        wanted = net(data)
        before = list(net.state_dict())
        weight = next(net.parameters())
        fast = fast_convolutions(net)
        got = fast(data)
        assert len(fast(data, stages=1)) == 1
    assert fast is net
    assert list(net.state_dict()) == before
    assert next(net.parameters()) is weight
    assert spectrum_bytes(net) > 0  # some layers did go through tiles
    for a, b in zip(got, wanted, strict=True):
        assert float((a - b).abs().max() / (b.max() - b.min())) < 1e-5  # required: 1e-4


def wide():
    torch.manual_seed(0)
    return nn.Conv2d(64, 64, 11, padding=5)


def test_what_is_not_plain_inference_is_direct():
    plain = wide()
    fast = fast_convolutions(nn.Sequential(copy.deepcopy(plain)))[0]
    data = torch.randn(1, 64, 46, 46)
    assert fast.tile(data) is None  # the weight wants a gradient
    fast(data).sum().backward()
    plain(data).sum().backward()
    assert torch.equal(fast.weight.grad, plain.weight.grad)
    with torch.inference_mode():
        assert fast.tile(data) is not None
        assert fast.tile(data.bfloat16()) is None  # the weight is float32
        with torch.autocast("cpu", torch.bfloat16):
            assert fast.tile(data) is None
        with pytest.raises(RuntimeError, match="64 channels"):
            fast(data[:, :3])


def test_bfloat16_goes_through_tiles_where_the_processor_has_it(monkeypatch):
    fast = fast_convolutions(nn.Sequential(wide().bfloat16()))
    data = torch.randn(1, 64, 46, 46).bfloat16()
    with torch.inference_mode():
        for there in (False, True):
            monkeypatch.setattr(fast_convolution, "has_bf16", lambda _, there=there: there)
            assert (fast[0].tile(data) is not None) is there
        got = fast(data)
    assert got.dtype == torch.bfloat16
    assert spectrum_bytes(fast) == sum(s.numel() * 2 for _, s in fast[0]._spectra.values()) > 0


def test_changed_weights_are_noticed():
    fast = fast_convolutions(nn.Sequential(wide()))
    data = torch.randn(1, 64, 46, 46)
    with torch.inference_mode():
        first = fast(data)
    with torch.no_grad():
        fast[0].weight.mul_(2)
        fast[0].bias.mul_(2)
    with torch.inference_mode():
        torch.testing.assert_close(fast(data), 2 * first)
    fast.load_state_dict(nn.Sequential(wide()).state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(fast(data), first)


@pytest.mark.parametrize("way", ["data", "numpy", "load_by_name"])
def test_weights_that_are_changed_behind_torchs_back_are_noticed(way):
    """As an average is swapped in, and as the next snapshot's arrays are loaded: no version counts these."""
    one, other = (build("lsp_6stage", stages=1, parts=2, width=0.5).eval() for _ in range(2))
    data = torch.rand(1, 4, 184, 184) - 0.5
    with torch.inference_mode():
        wanted = other(data)[0]
        fast = fast_convolutions(one)
        assert not torch.allclose(fast(data)[0], wanted)
        assert spectrum_bytes(fast) > 0
    arrays = {key: value.numpy() for key, value in other.state_dict().items()}
    if way == "load_by_name":
        load_by_name(fast, arrays)
    for name, parameter in fast.named_parameters():
        if way == "data":
            parameter.data.copy_(torch.from_numpy(arrays[name]))
        elif way == "numpy":
            parameter.detach().numpy()[...] = arrays[name]
    with torch.inference_mode():
        torch.testing.assert_close(fast(data)[0], wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def test_loading_counts_as_a_change():
    """It writes with NumPy, which tells torch nothing."""
    net = build("lsp_6stage", stages=1, parts=2, width=0.5)
    before = net.conv2_stage1.weight._version
    load_by_name(net, {"conv2_stage1.weight": np.zeros((64, 64, 9, 9)), "conv2_stage1.bias": np.zeros(64)})
    assert net.conv2_stage1.weight._version > before


def test_copies_and_threads():
    fast = fast_convolutions(nn.Sequential(wide())).requires_grad_(False)
    data = [torch.randn(1, 64, 46, 46) for _ in range(6)]
    wanted = [nn.functional.conv2d(x, fast[0].weight, fast[0].bias, padding=5) for x in data]
    for net in (fast, copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        with ThreadPoolExecutor(3) as pool:
            got = list(pool.map(net, data))
        for a, b in zip(got, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert spectrum_bytes(fast) > 0


def test_only_size_keeping_convolutions_are_concerned():
    convolutions = [
        nn.Conv2d(8, 8, 9, padding=3), nn.Conv2d(8, 8, 9, padding=4, stride=2), nn.Conv2d(8, 8, 3, padding=1),
        nn.Conv2d(8, 8, 9, padding=4, groups=2), nn.Conv2d(8, 8, (9, 7), padding=(4, 3)),
        nn.Conv2d(8, 8, 9, padding="same"), nn.Conv2d(8, 8, 9, padding=4, padding_mode="reflect"),
    ]  # fmt: skip
    net = fast_convolutions(nn.Sequential(*convolutions, nn.Conv2d(8, 8, 9, padding=4)))
    assert [isinstance(module, FastConv2d) for module in net] == [False] * 7 + [True]
    assert fast_convolutions(net)[7] is net[7]


def test_hooks_and_what_they_hold_stay():
    net = build("tiny", width=0.1)
    seen = []
    net.Mconv2_stage2.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape))
    prune.l1_unstructured(net.Mconv3_stage2, "weight", 0.5)
    names = list(net.state_dict())
    fast_convolutions(net.eval())
    assert list(net.state_dict()) == names
    assert type(net.Mconv4_stage2) is FastConv2d
    with torch.inference_mode():
        net(torch.zeros(1, 4, 64, 64))
    assert seen == [(1, 13, 8, 8)]


def test_the_choice():
    released_layer = (1, 128, 128, 46, 46, 11)
    tile = choose_tile(*released_layer)
    assert tile is not None
    assert TileShape(*released_layer, tile).spectrum_bytes <= tile_cost.LARGEST_SPECTRUM
    assert choose_tile(*released_layer, (tile + 1,)) == tile + 1  # nearly as good, and there already
    assert (
        choose_tile(1, 3, 128, 368, 368, 9) is None
    )  # three channels: transforms would cost more than they save
    assert choose_tile(1, 512, 512, 46, 46, 1) is None
    assert choose_tile(0, 128, 128, 46, 46, 11) is None


def test_two_spectra_are_kept_at_most():
    fast = fast_convolutions(nn.Sequential(wide())).requires_grad_(False)
    used = set()
    for side in (12, 24, 46, 92):
        data = torch.randn(1, 64, side, side)
        used.add(fast[0].tile(data))
        fast(data)
        assert len(fast[0]._spectra) <= 2
    assert len(used - {None}) > 1
