"""belief_maps and center_map: golden arrays, the reference, and what a caller can get wrong."""

import json
import re
import warnings

import numpy as np
import pytest
import torch
from ops_support import people
from support import golden

from cpm_repro.ops import _checks, _library, _reference, belief_map_loss, belief_maps, center_map


def near_cutoff(joints, grid, stride, sigma):
    """(N, h, w) cells within 1e-5 of the cut-off of any person's part, where one rounding decides."""
    h, w = grid
    x = np.arange(w) * stride + stride / 2 - 0.5
    y = np.arange(h) * stride + stride / 2 - 0.5
    joints = joints.double().numpy().reshape(joints.shape[0], -1, 1, 1, 2)
    exponent = (
        ((x[None, None, None, :] - joints[..., 0]) ** 2 + (y[None, None, :, None] - joints[..., 1]) ** 2)
        / 2
        / sigma**2
    )
    return (abs(exponent - 4.6052) < 1e-5).any(1)


def golden_cases():
    arrays, configs = np.load(golden("cpmdata.npz")), json.loads(golden("cpmdata_configs.json").read_text())
    for name in arrays["config_names"]:
        for index in range(len(arrays[f"{name}_label"])):
            yield f"{name}[{index}]", arrays, f"{name}_", index
    assert configs
    nine = np.load(golden("cpmdata_9parts.npz"))
    for index in range(len(nine["label"])):
        yield f"9parts[{index}]", nine, "", index


def test_golden_label_and_centre_maps(backend):
    # Measured: the CPU kernel gives the original's bits in all label maps and 1.2e-7 in the centre maps
    # (their exponentials are factored), the reference 6e-8 in both.
    limit = 0.0 if backend == "cpu" else 1.2e-7
    excused = 0
    for name, arrays, prefix, index in golden_cases():
        label, centre = arrays[f"{prefix}label"][index], arrays[f"{prefix}center_map"][index]
        everybody = np.concatenate(
            [arrays[f"{prefix}final_joints"][index][None], arrays[f"{prefix}final_others_{index}"]]
        )
        joints = torch.tensor(everybody[None, ..., :2])
        visible = torch.tensor(everybody[None, ..., 2].astype(np.int64))
        objpos = torch.tensor(arrays[f"{prefix}final_objpos"][index][None])
        got, got_centre = belief_maps(
            joints, visible, grid=label.shape[1:], center=objpos, center_size=centre.shape, backend=backend
        )
        difference = abs(got[0].numpy() - label)
        band = near_cutoff(joints, label.shape[1:], 8, 7.0)[0]
        excused += int((difference.max(0)[band] > limit).sum())
        assert difference.max(0)[~band].max() <= limit, name
        difference = abs(got_centre[0, 0].numpy() - centre)
        band = near_cutoff(objpos[:, None], centre.shape, 1, 21.0)[0]
        excused += int((difference[band] > 2e-7).sum())
        assert difference[~band].max() <= 2e-7, name
    assert excused == 0  # how many cells at the cut-off differ; none did


@pytest.mark.parametrize(
    ("grid", "stride", "sigma", "size"),
    [
        ((46, 46), 8, 7.0, None),
        ((3, 50), 8, 7.0, (11, 400)),
        ((17, 9), 1, 3.0, None),
        ((5, 5), 2.5, 40.0, (7, 3)),
    ],
)
def test_kernel_equals_reference(compiled, grid, stride, sigma, size):
    joints, visible, center = people(side=grid[1] * stride)
    options = {
        "grid": grid,
        "stride": stride,
        "sigma": sigma,
        "center": center,
        "center_size": size,
        "center_sigma": 11.0,
    }
    for got, expected in zip(
        belief_maps(joints, visible, **options, backend=compiled),
        belief_maps(joints, visible, **options, backend="reference"),
        strict=True,
    ):
        torch.testing.assert_close(
            got, expected, rtol=0, atol=2e-7
        )  # measured 1.2e-7: exp rounds differently


def test_people_add_up_and_are_clamped_after_each(backend):
    joints = torch.full((1, 4, 1, 2), 11.5)  # all on cell (1, 1); values 1, clamped
    near = joints.clone()
    near[..., 0] += 5.0  # exp(-25/98) = 0.775 each
    codes = torch.tensor([[[0], [1], [2], [1]]])
    label = belief_maps(near, codes, (3, 3), backend=backend)
    one = float(np.exp(np.float32(-25 / 98)))
    assert label[0, 0, 1, 1].item() == pytest.approx(one, abs=1e-7)
    assert label[0, 2, 1, 1].item() == 1.0  # 3 drawn people: 2.32 clamped
    assert label[0, 1, 1, 1].item() == pytest.approx(1 - one, abs=1e-7)
    assert label[0, 3, 1, 1].item() == 0.0


def test_visibility_rule(backend):
    joints = torch.full((1, 1, 3, 2), 3.5)
    label = belief_maps(joints, torch.tensor([[[0, 1, 2]]]), (2, 2), backend=backend)
    assert label[0, :3, 0, 0].tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("dtype", "code"),
    [(torch.int64, 2**32), (torch.int64, -(2**32)), (torch.uint32, 2**32 - 1), (torch.uint64, 2**63 + 2)],
)
def test_codes_are_looked_at_as_they_were_given(backend, dtype, code):
    """Cut to 32 bits, 2**32 is 0 and would be drawn."""
    visible = torch.full((1, 1, 1), code, dtype=dtype)
    with pytest.raises(ValueError, match=f"visible must hold Visibility codes 0, 1 or 2, got {code}"):
        belief_maps(torch.full((1, 1, 1, 2), 3.5), visible, (2, 2), backend=backend)


def test_codes_that_wrap_are_not_drawn_where_nobody_looks_at_them(backend, monkeypatch):
    """As on a GPU and under torch.compile."""
    monkeypatch.setattr(_checks, "report_values", lambda *_: None)
    visible = torch.full((1, 1, 1), 2**32)
    assert belief_maps(torch.full((1, 1, 1, 2), 3.5), visible, (2, 2), backend=backend)[0, 0].sum() == 0


def test_cells_sit_at_half_stride(backend):
    joints = torch.tensor([[[[3.5, 19.5]]]])  # column 0, row 2 of stride 8
    label = belief_maps(joints, torch.zeros(1, 1, 1, dtype=torch.int64), (4, 3), backend=backend)
    assert label[0, 0].argmax().item() == 2 * 3 + 0
    assert label[0, 0, 2, 0].item() == 1.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_results_are_the_rounded_float32_ones(backend, dtype):
    joints, visible, center = people()
    exact = belief_maps(joints, visible, center=center, backend=backend)
    rounded = belief_maps(joints, visible, center=center, dtype=dtype, backend=backend)
    for wide, narrow in zip(exact, rounded, strict=True):
        assert torch.equal(wide.to(dtype), narrow)


def test_centre_map_with_and_without_cutoff(backend):
    center = torch.tensor([[10.0, 20.0], [200.0, -3.0]])
    cut, full = (center_map(center, (64, 48), 5.0, cutoff, backend=backend) for cutoff in (True, False))
    x, y = np.meshgrid(np.arange(48.0), np.arange(64.0))
    expected = np.stack([np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 2 / 25) for cx, cy in center.tolist()])[
        :, None
    ]
    np.testing.assert_allclose(full, expected, atol=2e-7)
    np.testing.assert_allclose(cut, np.where(expected < np.exp(-4.6052), 0, expected), atol=2e-7)


@pytest.mark.parametrize("used", ["label", "centre map"])
def test_writing_over_what_a_gradient_needs_is_noticed(backend, used):
    """As by PyTorch's operators: the gradient was that of the other label."""
    joints, visible, center = people()
    label, centers = belief_maps(joints, visible, center=center, backend=backend)
    target = {"label": label, "centre map": centers}[used]
    loss = (torch.ones_like(target, requires_grad=True) * target).sum()
    belief_maps(joints + 5, visible, center=center, out=(label, centers), backend=backend)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int64, np.uint8])
def test_numbers_may_be_numpys(backend, kind):
    joints, visible, center = people()
    wanted = belief_maps(joints, visible, (46, 46), 8, 7, center=center, backend=backend)
    got = belief_maps(joints, visible, (46, 46), kind(8), kind(7), center=center, backend=backend)
    assert torch.equal(got[0], wanted[0])
    maps = wanted[0][:1, :5]
    losses = [
        belief_map_loss([maps], joints[:1], visible[:1], count=count, backend=backend)
        for count in (4, np.int64(4))
    ]
    assert torch.equal(*losses)


def test_strided_inputs_and_other_types(backend):
    joints, visible, center = people()
    expected = belief_maps(joints, visible, center=center, backend=backend)
    turned = joints.double().transpose(0, 2).contiguous().transpose(0, 2)
    codes = visible.to(torch.uint8).transpose(1, 2).contiguous().transpose(1, 2)
    got = belief_maps(turned, codes, center=center.repeat(1, 2)[:, ::3].flip(1).flip(1), backend=backend)
    assert torch.equal(got[0], expected[0])


def test_empty_batch_and_no_parts(backend):
    label, centre = belief_maps(
        torch.zeros(0, 1, 14, 2),
        torch.zeros(0, 1, 14, dtype=torch.int64),
        center=torch.zeros(0, 2),
        backend=backend,
    )
    assert label.shape == (0, 30, 46, 46)
    assert centre.shape == (0, 1, 368, 368)
    only_background = belief_maps(
        torch.zeros(2, 1, 0, 2), torch.zeros(2, 1, 0, dtype=torch.int64), (3, 3), backend=backend
    )
    assert torch.equal(only_background, torch.ones(2, 2, 3, 3))


def test_joints_that_are_not_finite_are_not_drawn_and_reported_once(backend):
    _checks._warn_not_finite.cache_clear()
    joints, visible, _ = people()
    visible[:] = 1
    hidden = visible.clone()
    hidden[0, 0, 0] = hidden[1, 2, 3] = hidden[0, 1, 1] = 2
    expected = belief_maps(joints, hidden, backend=backend)
    joints[0, 0, 0, 0], joints[1, 2, 3, 1], joints[0, 1, 1] = float("nan"), float("inf"), float("-inf")
    with pytest.warns(RuntimeWarning, match="joints holds NaN or infinite positions"):
        assert torch.equal(belief_maps(joints, visible, backend=backend), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        belief_maps(joints, visible, backend=backend)


def test_huge_positions_touch_nothing(backend):
    joints = torch.tensor([1e9, -1e9, 3e38, -3e38, 2.0**31 * 8, 0.0]).reshape(1, 1, 3, 2)
    label = belief_maps(joints, torch.zeros(1, 1, 3, dtype=torch.int64), (5, 5), backend=backend)
    assert label[0, [0, 1, 2]].abs().max() == 0


def test_threads_do_not_change_the_bits(compiled):
    joints, visible, center = people(samples=5)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = belief_maps(joints, visible, center=center, backend=compiled)
        torch.set_num_threads(3)
        together = belief_maps(joints, visible, center=center, backend=compiled)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_outputs_beyond_the_caches_are_the_same(compiled):
    joints, visible, center = people(samples=56)  # 35 MB: streamed on the CPU
    joints[3, 0, 1, 0] = center[5, 1] = float("nan")
    center[7] = torch.tensor([-80.0, 500.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = belief_maps(joints, visible, center=center, backend=compiled)
        alone = [
            belief_maps(joints[k : k + 1], visible[k : k + 1], center=center[k : k + 1], backend=compiled)
            for k in range(56)
        ]
    for got, parts in zip(whole, zip(*alone, strict=True), strict=True):
        assert torch.equal(got, torch.cat(parts))


def test_writes_into_given_tensors(backend):
    joints, visible, center = people()
    out = (torch.full((2, 10, 46, 46), 7.0), torch.full((2, 1, 368, 368), 7.0))
    got = belief_maps(joints, visible, center=center, out=out, backend=backend)
    assert got[0] is out[0]
    assert torch.equal(out[0], belief_maps(joints, visible, backend=backend))
    with pytest.raises(ValueError, match="out must be contiguous"):
        belief_maps(joints, visible, out=out[0][:, :9], backend=backend)


JOINTS, VISIBLE = torch.zeros(2, 1, 3, 2), torch.zeros(2, 1, 3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"joints": np.zeros((2, 1, 3, 2))}, TypeError, r"joints must be a torch.Tensor, got ndarray"),
        (
            {"joints": JOINTS.long()},
            TypeError,
            r"joints must be a floating-point tensor of pixels, got torch.int64",
        ),
        ({"joints": JOINTS[0]}, ValueError, r"joints must have shape \(N, P, K, 2\), got \(1, 3, 2\)"),
        (
            {"joints": JOINTS[:, :0], "visible": VISIBLE[:, :0]},
            ValueError,
            "at least one person per sample, got 0",
        ),
        (
            {"visible": VISIBLE.float()},
            TypeError,
            "visible must be an integer tensor of Visibility codes, got torch.float32",
        ),
        ({"visible": VISIBLE[:, :, :2]}, ValueError, r"visible must have shape \(2, 1, 3\), got \(2, 1, 2\)"),
        ({"visible": VISIBLE + 3}, ValueError, "visible must hold Visibility codes 0, 1 or 2, got 3"),
        (
            {"visible": VISIBLE.to("meta")},
            ValueError,
            r"visible must be on the device of joints \(cpu\), got meta",
        ),
        ({"stride": 0}, ValueError, "stride must be positive and finite, got 0"),
        ({"sigma": -1.0}, ValueError, "sigma must be positive and finite, got -1.0"),
        ({"sigma": float("nan")}, ValueError, "sigma must be positive and finite, got nan"),
        ({"sigma": "7"}, TypeError, "sigma must be a number, got str"),
        ({"grid": 46}, TypeError, r"grid must be two whole numbers \(height, width\), got 46"),
        (
            {"grid": (0, 4)},
            ValueError,
            r"grid must be \(height, width\) between 1 and 1073741824, got \(0, 4\)",
        ),
        ({"grid": (2**40, 4)}, ValueError, r"grid must be \(height, width\) between 1"),
        (
            {"center": torch.zeros(3, 2)},
            ValueError,
            r"center must have shape \(2, 2\) like joints, got \(3, 2\)",
        ),
        (
            {"dtype": torch.float64},
            TypeError,
            "dtype must be float32, float16 or bfloat16, got torch.float64",
        ),
        ({"backend": "gpu"}, ValueError, "backend must be one of cpu, cuda, cupy, reference, got 'gpu'"),
        ({"backend": "cuda"}, ValueError, "backend 'cuda' needs cuda tensors, got cpu tensors"),
    ],
)
def test_mistakes_are_named(arguments, error, words):
    with pytest.raises(error, match=words) as caught:
        belief_maps(**{"joints": JOINTS, "visible": VISIBLE, **arguments})
    assert "\n" not in str(caught.value)


def test_environment_chooses_the_back_end(monkeypatch):
    monkeypatch.setenv("CPM_BACKEND", "nonsense")
    with pytest.raises(ValueError, match=r"^CPM_BACKEND must be one of cpu, .*, got 'nonsense'$"):
        belief_maps(JOINTS, VISIBLE)
    monkeypatch.setenv("CPM_BACKEND", "cuda")
    with pytest.raises(ValueError, match=r"^CPM_BACKEND=cuda needs cuda tensors, got cpu tensors$"):
        belief_maps(JOINTS, VISIBLE)
    monkeypatch.setenv("CPM_BACKEND", "reference")
    monkeypatch.setattr(_reference, "belief_maps", lambda *_: torch.full((2, 8, 46, 46), 3.0))
    assert belief_maps(JOINTS, VISIBLE).mean() == 3.0


def test_missing_extension_falls_back_with_one_warning(monkeypatch):
    from cpm_repro.ops import _backend

    monkeypatch.delenv("CPM_BACKEND", raising=False)
    monkeypatch.setattr(_library, "LOAD_ERROR", ImportError("no such file"))
    _backend._warn_once.cache_clear()
    with pytest.warns(RuntimeWarning, match=re.escape(_library.BUILD_COMMAND)) as caught:
        _ = [belief_maps(JOINTS, VISIBLE) for _ in range(3)]
    assert len(caught) == 1
    with pytest.raises(ValueError, match="backend 'cpu' is not built"):
        belief_maps(JOINTS, VISIBLE, backend="cpu")
