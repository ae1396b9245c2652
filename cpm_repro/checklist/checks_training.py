"""Measurements of the solver, the targets, the augmentation settings and the test procedure."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cpm_repro import ops
from cpm_repro.bench.case import largest
from cpm_repro.caffe import CaffeSGD
from cpm_repro.caffe.generate import solver_message, train_message
from cpm_repro.checklist.context import Context
from cpm_repro.errors import UserError
from cpm_repro.inference.network_input import network_input
from cpm_repro.model import describe_training
from cpm_repro.skeleton import Visibility


def solver(_: Context, arch: str, field: str) -> float | str:
    """A field of the solver that trains ``arch``, as float32 prototxt numbers to 7 digits."""
    value = getattr(solver_message(arch), field)
    return value if isinstance(value, str) else float(f"{value:.7g}")


def epochs_per_step(context: Context, arch: str, people: int) -> float:
    """Epochs of ``people`` between two learning-rate steps."""
    return solver_message(arch).stepsize * data_setting(context, arch, "batch_size") / people


def data_setting(_: Context, arch: str, field: str) -> float:
    """A number of the training file's data layer."""
    layer = train_message(describe_training(arch)).layer[0]
    params = (layer.cpmdata_param, layer.transform_param)
    param = next(p for p in params if field in p.DESCRIPTOR.fields_by_name)
    return float(f"{float(getattr(param, field)):.7g}")


def momentum_keeps_old_rate(_: Context) -> list[float]:
    """Two updates of a parameter 1 with gradient 1, momentum 0.9, rate 0.1 and then 0.01."""
    parameter = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = CaffeSGD([parameter], lr=0.1, momentum=0.9)
    values = []
    for rate in (0.1, 0.01):
        for group in optimizer.param_groups:
            group["lr"] = rate
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        values.append(float(parameter.detach()))
    return values


def loss_of_one_everywhere(_: Context) -> list[float]:
    """Loss per stage of two people's maps that are 1 too high in each of 15 x 46 x 46 places."""
    joints, visible = torch.rand(2, 1, 14, 2) * 368, torch.ones(2, 1, 14, dtype=torch.int64)
    label = _label(joints, visible)
    own, everybody = label[:, :15] + 1, label[:, 15:] + 1
    return [float(value) for value in ops.belief_map_loss([everybody, own, own], joints, visible)]


def label_channels(_: Context) -> float:
    """Channels of a label for 14 parts."""
    return _label(torch.full((1, 1, 14, 2), 100.0)).shape[1]


def first_cell(_: Context) -> list[float]:
    """Pixel of the first and the second cell of a grid of stride 8: where a peak there is exactly 1."""
    found = []
    for cell in (0, 1):
        pixels = torch.arange(0, 20, 0.5)
        joints = torch.stack([pixels, torch.full_like(pixels, 3.5)], dim=1)[:, None, None]
        found.append(float(pixels[_label(joints)[:, 0, 0, cell].argmax()]))
    return found


def part_reach(_: Context, sigma: float) -> float:
    """How far from its middle a part's Gaussian reaches along an axis, whole pixels: a cell each here."""
    label = _label(torch.full((1, 1, 1, 2), 100.0), grid=(201, 201), stride=1, sigma=sigma)
    return _reach(label[0, 0])


def center_reach(_: Context, sigma: float) -> float:
    """The same of the centre map's Gaussian in training."""
    return _reach(ops.center_map(torch.full((1, 2), 100.0), size=(201, 201), sigma=sigma)[0, 0])


def _reach(bump: torch.Tensor) -> float:
    """Cells from 100 to the last one that is not zero, in row 100."""
    return float((bump[100] > 0).nonzero().max()) - 100


def unbounded_center_map(_: Context) -> float:
    """Smallest value of the test-time centre map anywhere in a 368 px crop, as a power of ten."""
    lowest = ops.center_map(torch.tensor([[183.0, 183.0]]), cutoff=False).min()
    return float(torch.log10(lowest))


def people_add_up(_: Context) -> list[float]:
    """Two people's Gaussians at one cell: far from it (e = 1.5 each) and near it (e = 0.5 each)."""
    values = []
    for exponent in (1.5, 0.5):
        distance = (2 * exponent * 49) ** 0.5
        joints = torch.tensor([[[[35.5 + distance, 35.5]], [[35.5 - distance, 35.5]]]])
        label = _label(joints, grid=(8, 8))
        values.append(float(label[0, 2, 4, 4]))
    return values


def drawn(_: Context) -> list[float]:
    """Whether an occluded, a visible and a cropped joint get a peak: 1 or 0 each."""
    joints = torch.full((1, 1, 3, 2), 100.0)
    visible = torch.tensor([[[Visibility.OCCLUDED, Visibility.VISIBLE, Visibility.CROPPED]]])
    label = _label(joints, visible)
    return [float(label[0, part].max() > 0) for part in range(3)]


def groups(_: Context) -> list[float]:
    """Peaks of part 1 in the annotated person's and in everybody's half of the label, two people apart."""
    joints = torch.tensor([[[[50.0, 50.0]], [[300.0, 300.0]]]])
    label = _label(joints)
    halves = label[0, 0], label[0, 2]
    columns = [(half > 0.5).any(dim=0).int() for half in halves]  # a run of columns per peak
    return [float(row[0] + row.diff().clamp(min=0).sum()) for row in columns]


def background(_: Context) -> float:
    """Largest distance of the background map from 1 - the highest part, over a random label."""
    label = _label(torch.rand(2, 3, 14, 2) * 368)
    wanted = torch.cat([(1 - half[:, :14].amax(1, keepdim=True)).clamp(min=0) for half in label.split(15, 1)])
    return float((torch.cat([label[:, 14:15], label[:, 29:30]]) - wanted).abs().max())


def network_values(_: Context) -> list[float]:
    """What the network reads for pixels 0, 128 and 255."""
    image = torch.tensor([0, 128, 255], dtype=torch.uint8)[None, None, :, None].expand(1, 8, 3, 3)
    data = network_input(image.contiguous(), torch.tensor([[1.0, 1.0]]))
    return [float(value) for value in data[0, 0, 0]]


def imresize_differing(context: Context) -> float:
    """Pixels of an 8-bit picture that our imresize makes differently from MATLAB's, over all golden sizes."""
    golden = context.golden_file("matlab_imresize.npz")
    picture = golden.array("uint8_in", "rows", "columns", "colours")
    made = {}
    for name in golden.content:
        if name.startswith("uint8_scale"):
            made[name] = ops.imresize(picture, scale=float(name.removeprefix("uint8_scale")))
        elif name.startswith("uint8_size"):
            height, width = name.removeprefix("uint8_size").split("x")
            made[name] = ops.imresize(picture, size=(int(height), int(width)))
    if not made:
        raise UserError(f"{golden.path}: wanted pictures as uint8_scale... or uint8_size..., got none")
    differing = [np.asarray(ours) != golden.array(name, *ours.shape) for name, ours in made.items()]
    return sum(int(picture.sum()) for picture in differing)


def fusion_difference(context: Context) -> float:
    """Largest difference of the fused maps from the original's two-step chain, over all golden cases."""
    differences = []
    golden = context.golden_file("multiscale_fusion.npz")
    for case in range(3):
        name = f"case{case}"
        maps = golden.array(f"{name}_maps", "scales", "maps", "rows", "columns")
        pads, sizes = (golden.array(f"{name}_{key}", len(maps), n) for key, n in (("pads", 4), ("sizes", 2)))
        height, width = (int(value) for value in golden.array(f"{name}_image_hw", 2))
        fused = ops.fuse_multiscale(torch.from_numpy(maps), pads, sizes, (height, width))
        wanted = golden.array(f"{name}_fused", *fused.shape)
        differences.append(float(np.abs(np.asarray(fused) - wanted).max()))
    return largest(differences)


def _label(joints: torch.Tensor, visible: torch.Tensor | None = None, **options: Any) -> torch.Tensor:
    """The label of joints (N, P, K, 2), all of them visible unless ``visible`` (N, P, K) says otherwise."""
    if visible is None:
        visible = torch.ones(joints.shape[:3], dtype=torch.int64)
    label = ops.belief_maps(joints, visible, **options)
    assert isinstance(label, torch.Tensor)
    return label
