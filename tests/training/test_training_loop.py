"""The loop: it learns, by the same updates however they are shared out."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from small_runs import losses, small
from tf32_settings import tf32_allowed, tf32_flags

from cpm_repro.device import float32_products
from cpm_repro.errors import UserError
from cpm_repro.training import loop, stage_losses, train
from cpm_repro.training.sharding import Cores, sharded_backward


def test_a_run_leaves_its_folder_and_its_loss_falls(tmp_path):
    result = train(small(30), tmp_path / "run")
    made = losses(tmp_path / "run")
    assert len(made) == 30
    assert np.sum(made[-5:]) < np.sum(made[:5])
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "checkpoints",
    }
    assert len(result.tables) == 3
    assert 0 <= result.tables[-1].total <= 100


def test_the_losses_do_not_depend_on_the_threads_that_prepare_batches(tmp_path, capsys):
    """Whose number is therefore chosen where it is not given; it is printed, and saved with the settings."""
    made = {}
    for workers in (None, 0, 3):
        run = tmp_path / f"{workers}"
        train(small(4, workers=workers), run)
        made[workers] = losses(run)
    assert made[0] == made[3] == made[None]
    assert json.loads((tmp_path / "None" / "config.json").read_text())["workers"] == 1
    assert "20 held out, batches by 1 thread\n" in capsys.readouterr().out


@pytest.mark.parametrize(("precision", "tf32"), [("float32", False), ("tf32", True)])
def test_validation_has_the_updates_tf32(tmp_path, monkeypatch, precision, tf32):
    """The device is told that it is a GPU."""
    seen, original = [], loop.predict_dataset

    def looking(*given, **named):
        seen.append(tf32_flags())
        return original(*given, **named)

    as_on_a_gpu = partial(float32_products, torch.device("cuda"))
    monkeypatch.setattr(loop, "predict_dataset", looking)
    monkeypatch.setattr(loop, "float32_products", lambda _, tf32: as_on_a_gpu(tf32=tf32))
    with tf32_allowed(not tf32, not tf32):
        train(small(1, **{"solver.precision": precision}), tmp_path / "run")
        assert tf32_flags() == (not tf32, not tf32)
    assert set(seen) == {(tf32, tf32)}


def test_shards_give_the_whole_batchs_gradient():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 3))
    data = torch.randn(5, 3, 9, 9)

    def loss_of(part: slice) -> torch.Tensor:
        out = net(data[part])
        return torch.stack([out.square().sum() / 10, out.abs().sum() / 10])

    whole = loss_of(slice(0, 5))
    expected = torch.autograd.grad(whole.sum(), list(net.parameters()))
    with Cores(2) as cores:
        values = sharded_backward(net, cores, 5, loss_of)
    assert values.tolist() == pytest.approx(whole.tolist(), rel=1e-5)
    for weight, gradient in zip(net.parameters(), expected, strict=True):
        assert torch.allclose(weight.grad, gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("passes", [1, 3])
def test_gradients_lie_in_memory_as_their_weights_do(passes):
    """Fused AdamW on a CPU walks both side by side whatever their strides are."""
    net = torch.nn.Conv2d(3, 4, 3, bias=False).to(memory_format=torch.channels_last)
    factors = torch.randn(4, 3, 3, 3)
    sharded_backward(net, Cores(1), 3, lambda _: (net.weight * factors).sum().reshape(1), passes=passes)
    assert net.weight.grad.stride() == net.weight.stride() != factors.stride()
    assert torch.equal(net.weight.grad, passes * factors)


def test_stage_losses_are_caffes_and_stage_1_sees_everybody():
    """Hand-computed: zero maps, so each loss is the sum of its target's squares over 2N."""
    from cpm_repro.config import TargetConfig

    joints = torch.tensor([[[[3.5, 3.5]], [[11.5, 11.5]]]])  # two people on cell centres
    visible = torch.ones(1, 2, 1, dtype=torch.uint8)
    maps = [torch.zeros(1, 2, 2, 2) for _ in range(3)]
    first, second, third = stage_losses(maps, joints, visible, TargetConfig(sigma=7.0, stride=8)).tolist()
    near, far = np.exp(-64 / 98), np.exp(-128 / 98)
    alone = np.array([1, near, near, far])
    everybody = np.minimum(alone + alone[[3, 1, 2, 0]], 1)
    expected = [np.sum(t**2) / 2 + np.sum((1 - t) ** 2) / 2 for t in (everybody, alone)]
    assert [first, second, third] == pytest.approx([expected[0], expected[1], expected[1]], rel=1e-5)


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    train(small(1), tmp_path / "run")
    with pytest.raises(UserError, match=r"already holds a run.*--resume"):
        train(small(1), tmp_path / "run")
