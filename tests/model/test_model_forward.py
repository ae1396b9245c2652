"""Forward passes against the original Caffe and against a layer-by-layer interpreter of the description."""

import numpy as np
import pytest
import torch
from model_helpers import GOLDEN, SMALL, fill_by_golden_rule, golden_input, interpret, worst_relative_error
from support import golden

from cpm_repro.model import build, describe_training, initialise
from cpm_repro.model.pose_machine import PoseMachine9x9, PoseMachineVGG

# Largest difference from Caffe, as a share of each map's range. Measured worst over sizes and stages:
# person 6.4e-6 (its last stage has a small range), vgg 3.3e-6, flic 1.1e-6, mpii 1.0e-6.
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=GOLDEN)
def full_size(request):
    """(golden name, network of released size with golden weights), built once per architecture."""
    net = build(request.param).eval()
    fill_by_golden_rule(net, seed=7)
    return GOLDEN[request.param], net


def test_maps_equal_caffe_at_odd_sizes(full_size):
    """121x105 and 125x99: every pooling has to round up, and the centre map's last window is cut."""
    name, net = full_size
    stored = np.load(golden("forward_odd_sizes.npz"))
    data = golden_input(tuple(stored[f"{name}_input_shape"]), seed=int(stored[f"{name}_seed"]) + 1)
    with torch.inference_mode():
        maps = net(data)
    wanted = [stored[f"{name}_{blob}"] for blob in net.output_layers]
    assert worst_relative_error(maps, wanted) <= TOLERANCE


def test_maps_and_features_equal_caffe(full_size):
    """136x104, from the golden file itself: its weights and input agree with the rule; features too."""
    name, net = full_size
    stored = np.load(golden(f"forward_{name}.npz"))
    assert list(stored["param_layers"]) == [layer.name for layer in net.description.convolutions]
    assert list(stored["belief_blobs"]) == list(net.output_layers)
    for i, layer in enumerate(net.description.convolutions):
        np.testing.assert_array_equal(
            stored["param_first4"][i], net.layer(layer.name).weight.flatten()[:4].detach()
        )
    data = torch.from_numpy(stored["case0_input"])
    assert torch.equal(data, golden_input(tuple(data.shape), seed=int(stored["seed"])))

    inner: dict[str, torch.Tensor] = {}
    for key in stored.files:
        if key.startswith(("case0_feat8_", "case0_pool_center")):
            blob = key.removeprefix("case0_").removeprefix("feat8_")
            # the ReLU works in place on what the hook sees, as on Caffe's blob
            net.layer(blob).register_forward_hook(lambda _m, _i, out, blob=blob: inner.update({blob: out}))
    with torch.inference_mode():
        maps = net(data)
    for module in net.children():
        module._forward_hooks.clear()
    wanted = [stored[f"case0_belief_{blob}"] for blob in net.output_layers]
    assert worst_relative_error(maps, wanted) <= TOLERANCE
    for blob, got in inner.items():
        key = f"case0_feat8_{blob}" if f"case0_feat8_{blob}" in stored else f"case0_{blob}"
        assert worst_relative_error([got[:, : stored[key].shape[1]]], [stored[key]]) <= TOLERANCE
    assert len(inner) >= 1


@pytest.mark.parametrize("mistake", ["floored", "padded"])
def test_golden_maps_show_pooling_that_floors_or_pads(full_size, mistake):
    """The comparisons above can fail: they do for the poolings of other ports."""
    name, net = full_size
    stored = np.load(golden("forward_odd_sizes.npz"))
    data = golden_input(tuple(stored[f"{name}_input_shape"]), seed=int(stored[f"{name}_seed"]) + 1)
    poolings = [module for module in net.modules() if isinstance(module, torch.nn.MaxPool2d)]
    try:
        for pool in poolings:
            pool.ceil_mode = False
            pool.padding = 1 if mistake == "padded" else 0
        with torch.inference_mode():
            got = net(data, stages=1)[0]
    finally:
        for pool in poolings:
            pool.ceil_mode, pool.padding = True, 0
    want = stored[f"{name}_{net.output_layers[0]}"]
    assert tuple(got.shape) != want.shape or worst_relative_error([got], [want]) > 10 * TOLERANCE


@pytest.mark.parametrize("arch", ["mpii_6stage", "flic_4stage", "mpii_vgg_6stage"])
def test_pooled_centre_map_divides_by_the_clipped_window(arch):
    """136x104: the last row's and column's windows are 8 wide. Dividing by 81 there is found."""
    name, net = GOLDEN[arch], build(arch, width=0.01)
    stored = np.load(golden("forward_odd_sizes.npz"))
    data = golden_input(tuple(stored[f"{name}_even_input_shape"]), seed=int(stored[f"{name}_seed"]))
    want = stored[f"{name}_even_pool_center_lower"]
    assert (
        worst_relative_error([net.pool_center_lower(data[:, 3:])], [want]) <= 1e-6
    )  # measured 0: equal bits
    net.pool_center_lower.divisor_override = 81
    wrong = net.pool_center_lower(data[:, 3:]).numpy()
    assert np.abs(wrong - want)[..., :-1, :-1].max() <= 1e-6
    assert np.abs(wrong - want)[..., -1, :].min() > 0.01


@pytest.mark.parametrize(
    ("arch", "stages", "parts", "size"),
    [
        ("mpii_6stage", 4, 2, (41, 48)),
        ("mpii_6stage", 1, 14, (37, 30)),
        ("flic_4stage", None, 9, (33, 40)),
        ("mpii_vgg_6stage", 3, 14, (38, 45)),
        ("tiny", None, None, (31, 64)),
        ("person_4stage", None, None, (33, 27)),
        ("person_4stage", 2, 3, (9, 17)),
    ],
)
def test_modules_equal_the_interpreted_layer_list(arch, stages, parts, size):
    """Maps and gradients, in float64, against every layer of the description run by its definition."""
    net = build(arch, stages=stages, parts=parts, width=SMALL[arch]).eval()
    initialise(net, "kaiming", torch.Generator().manual_seed(3))
    with torch.no_grad():
        for name in net.output_layers:
            net.layer(name).weight.normal_(generator=torch.Generator().manual_seed(5))
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-0.1, 0.3, generator=torch.Generator().manual_seed(6))
    net = net.double()
    data = torch.randn(
        2, net.input_channels, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    given = dict(net.named_parameters())
    maps, wanted = net(data), interpret(net.description, given, data)
    assert len(maps) == net.stages
    for got, want in zip(maps, wanted, strict=True):
        assert got.shape[1] == net.maps
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    ours = torch.autograd.grad(sum(m.square().sum() for m in maps), list(given.values()))
    theirs = torch.autograd.grad(sum(m.square().sum() for m in wanted), list(given.values()))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("arch", SMALL)
def test_early_exit_gives_the_same_first_stages(arch):
    net = build(arch, width=SMALL[arch]).eval()
    data = torch.randn(1, net.input_channels, 48, 40)
    with torch.inference_mode():
        whole = net(data)
        for stages in range(1, net.stages + 1):
            part = net(data, stages=stages)
            assert len(part) == stages
            assert all(torch.equal(a, b) for a, b in zip(part, whole, strict=False))


def test_early_exit_skips_the_later_layers():
    net = build("mpii_6stage", width=0.02).eval()
    ran = []
    for name, module in net.named_children():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    net(torch.zeros(1, 4, 32, 32), stages=1)
    assert ran
    assert all(name.endswith("_stage1") for name in ran)


def _feeds_only_the_next_stage(net, size=(40, 48)) -> bool:
    """Whether, once stage t+1 is made constant, nothing of stage t's maps reaches the stages after it."""
    data = torch.rand(
        1, net.input_channels, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    right = True
    for t in range(net.stages - 2):
        changed = []
        for constant in (False, True):
            net.load_state_dict(_random_state(net))
            following = net.layer(net.output_layers[t + 1])
            if constant:
                following.weight.zero_()
            before = net(data)
            net.layer(net.output_layers[t]).bias.add_(1.0)
            after = net(data)
            changed.append([not torch.equal(a, b) for a, b in zip(before, after, strict=True)])
        right &= all(changed[0][t:]) and not any(changed[1][t + 1 :])
    return right


def _random_state(net):
    """Positive, so that every change in an input changes all that follows from it."""
    rng = torch.Generator().manual_seed(4)
    return {
        key: torch.rand(value.shape, dtype=torch.float64, generator=rng) / max(1, value[0].numel())
        for key, value in net.state_dict().items()
    }


@pytest.mark.parametrize("arch", SMALL)
@torch.no_grad()
def test_each_stage_reads_the_one_before_it(arch):
    net = build(arch, parts=2, width=SMALL[arch], stages=4).double().eval()
    assert _feeds_only_the_next_stage(net)


@pytest.mark.parametrize(("base", "arch"), [(PoseMachine9x9, "mpii_6stage"), (PoseMachineVGG, "tiny")])
@torch.no_grad()
def test_a_stage_wired_to_the_wrong_predecessor_is_found(base, arch):
    """Another port feeds its last stage the maps of the stage before the previous one."""

    class Miswired(base):
        def _refine(self, t, *bottom):
            previous = 1 if base is PoseMachine9x9 else 0
            self.seen = [*getattr(self, "seen", [])[: t - 2], bottom[previous]]
            if t == self.stages:
                bottom = (*bottom[:previous], self.seen[-2], *bottom[previous + 1 :])
            return super()._refine(t, *bottom)

    net = Miswired(build(arch, parts=2, width=SMALL[arch], stages=4).description).double().eval()
    assert not _feeds_only_the_next_stage(net)


@pytest.mark.parametrize("arch", SMALL)
def test_training_step_equals_the_interpreted_training_net(arch):
    """Maps and gradients in training mode: dropout where the training network has it, and nowhere else."""
    net = build(arch, stages=2, width=SMALL[arch]).double().train()
    net.load_state_dict(_random_state(net))
    masks = {}
    for name, module in net.named_children():
        if isinstance(module, torch.nn.Dropout):
            module.register_forward_hook(
                lambda _m, _i, out, name=name: masks.update({name: (out != 0).double()})
            )
    data = torch.rand(2, net.input_channels, 40, 48, dtype=torch.float64)
    maps = net(data)
    assert all(0.3 < mask.mean() < 0.7 for mask in masks.values())
    given = dict(net.named_parameters())
    wanted = interpret(describe_training(arch, 2, width=SMALL[arch]), given, data, masks)
    ours = torch.autograd.grad(sum(m.square().sum() for m in maps), list(given.values()))
    theirs = torch.autograd.grad(sum(m.square().sum() for m in wanted), list(given.values()))
    for a, b in zip((*maps, *ours), (*wanted, *theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert len(masks) == (2 if arch in ("mpii_6stage", "flic_4stage") else 0)


@pytest.mark.parametrize("arch", ["lsp_6stage", "tiny", "person_4stage"])
def test_memory_formats_autocast_and_compilation(arch):
    net = build(arch, stages=2, width=0.1).eval()
    initialise(net, "kaiming", torch.Generator().manual_seed(0))
    data = torch.rand(2, net.input_channels, 40, 48)
    with torch.no_grad():
        wanted = net(data)
        exported = torch.export.export(net, (data,), strict=False).module()(data)
        compiled = torch.compile(net, backend="aot_eager", fullgraph=True)(data)
        net.to(memory_format=torch.channels_last)
        last = net(data.to(memory_format=torch.channels_last))
        with torch.autocast("cpu", torch.bfloat16):
            half = net(data)
    for want, *others in zip(wanted, exported, compiled, last, strict=True):
        for other in others:
            torch.testing.assert_close(other, want, rtol=1e-4, atol=1e-6)
    for want, low in zip(wanted, half, strict=True):
        assert low.dtype == torch.bfloat16
        # bfloat16 keeps 8 bits; measured worst 1.5 % of the range (person), 0.4 % (lsp), 0.2 % (tiny)
        assert (low.float() - want).abs().max() <= 0.05 * want.abs().max()
