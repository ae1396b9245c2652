"""VGG-19's ImageNet weights as the first values of the VGG networks' trunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpm_repro.errors import UserError
from cpm_repro.model.load import Blob, LoadReport, Weights, layers_of, load_by_name
from cpm_repro.model.pose_machine import PoseMachine, PoseMachineVGG

ILSVRC_MEAN_BGR = (103.939, 116.779, 123.68)
"""Subtracted from 0..255 pixels by the ILSVRC VGG-19."""

TORCHVISION_MEAN_RGB = (0.485, 0.456, 0.406)
TORCHVISION_STD_RGB = (0.229, 0.224, 0.225)
"""torchvision's models see (pixel/255 - mean) / std."""

TORCHVISION_LAYERS = {
    0: "conv1_1", 2: "conv1_2",
    5: "conv2_1", 7: "conv2_2",
    10: "conv3_1", 12: "conv3_2", 14: "conv3_3", 16: "conv3_4",
    19: "conv4_1", 21: "conv4_2", 23: "conv4_3", 25: "conv4_4",
    28: "conv5_1", 30: "conv5_2", 32: "conv5_3", 34: "conv5_4",
}  # fmt: skip
"""Position of each convolution in torchvision's ``vgg19().features`` (the one without batch norm)."""

_OUR_OFFSET, _OUR_SCALE = 128.0, 256.0  # our input is x = (pixel - 128) / 256


def initialise_from_vgg19(net: PoseMachine, weights: Weights, source: str = "weights") -> LoadReport:
    """Fill the layers that ``net`` shares with VGG-19 (conv1_1 .. conv4_2; person net: .. conv5_1).

    ``weights`` is either {layer: [weight, bias]} of an ILSVRC caffemodel, or a torchvision-style state dict
    (``features.0.weight`` ...). The other layers of ``net`` stay as they are; the report lists them as
    missing, and VGG-19's own later layers as ignored. All layers but conv1_1 are copied as they are.

    VGG-19 and our networks see a pixel p (0..255) differently, and conv1_1 makes up for it. Our channels are
    x = (p - 128) / 256 in the order B, G, R.

    * ILSVRC caffemodel: B, G, R of p - m with m = (103.939, 116.779, 123.68). Since
      p - m = 256 x + (128 - m), the weights W become 256 W, and the bias gains the sum over channels and taps
      of W (128 - m).
    * torchvision: R, G, B of (p/255 - m) / s with m = (0.485, 0.456, 0.406), s = (0.229, 0.224, 0.225).
      Since that is 256/(255 s) x + (128/255 - m)/s, W becomes 256 W/(255 s), the bias gains the sum of
      W (128/255 - m)/s, and the channel order of W is then reversed.

    Not exact at the border: where the 3x3 window hangs over the image, VGG-19 sees zeros that mean the mean
    colour, ours sees zeros that mean grey 128, so the outermost ring of conv1_1's output differs as if the
    picture had a frame of grey 128. Everything inside agrees.

    Caffe itself, fine-tuning by name, copies conv1_1 unscaled: ``load_by_name(net, weights, strict=False)``.

    Raises:
        UserError: ``net`` does not begin with VGG-19 at full width, or layers are absent or of another shape.
    """
    if not isinstance(net, PoseMachineVGG):
        raise UserError(f"{net.arch} does not begin with VGG-19: wanted mpii_vgg_6stage or person_4stage")
    torchvision_style = any(key.startswith("features.") for key in weights)
    layers = _torchvision_layers(weights, source) if torchvision_style else layers_of(weights, source)
    shared = [layer.name for layer in net.description.convolutions if layer.name in _VGG_NAMES]
    absent = [name for name in shared if len(layers.get(name, ())) != 2]
    if absent:
        raise UserError(f"{source}: not a whole VGG-19: weight and bias wanted for {', '.join(absent)}")
    weight, bias = (_array(blob) for blob in layers["conv1_1"])
    if weight.ndim == 4 and weight.shape[1] == 3:  # another shape is reported below, with the others
        layers["conv1_1"] = list(_fold(weight, bias.reshape(-1), torchvision_style))
    # A layer of ours outside VGG-19 that happens to be named in the file must not be touched.
    kept = {name: layers[name] for name in layers if name in shared or name not in _own_names(net)}
    return load_by_name(net, kept, source=source)


_VGG_NAMES = frozenset(TORCHVISION_LAYERS.values())


def _fold(weight: NDArray[Any], bias: NDArray[Any], torchvision_style: bool) -> tuple[Blob, Blob]:
    """conv1_1 (out, 3, kh, kw) and bias (out,) for our input; see :func:`initialise_from_vgg19`."""
    if torchvision_style:
        mean, std = _per_channel(TORCHVISION_MEAN_RGB), _per_channel(TORCHVISION_STD_RGB)
        slope, offset = _OUR_SCALE / (255 * std), (_OUR_OFFSET / 255 - mean) / std
    else:
        slope, offset = _per_channel((_OUR_SCALE,) * 3), _OUR_OFFSET - _per_channel(ILSVRC_MEAN_BGR)
    wide = weight.astype(np.float64)
    folded = wide * slope
    if torchvision_style:
        folded = folded[:, ::-1]
    shifted = bias + (wide * offset).sum(axis=(1, 2, 3))
    return np.ascontiguousarray(folded, dtype=np.float32), shifted.astype(np.float32)


def _per_channel(values: Sequence[float]) -> NDArray[np.float64]:
    """Three numbers shaped to multiply (out, 3, kh, kw)."""
    return np.asarray(values, dtype=np.float64).reshape(1, 3, 1, 1)


def _torchvision_layers(weights: Weights, source: str) -> dict[str, list[Blob]]:
    """Caffe layer name -> [weight, bias]; other layers of the state dict (the classifier) keep their keys."""
    if any(key.endswith("running_mean") for key in weights):
        raise UserError(f"{source}: wanted a VGG-19 without batch norm, got one with it")
    named = {f"features.{place}": name for place, name in TORCHVISION_LAYERS.items()}
    return {named.get(layer, layer): blobs for layer, blobs in layers_of(weights, source).items()}


def _own_names(net: PoseMachine) -> set[str]:
    return {layer.name for layer in net.description.convolutions}


def _array(blob: Blob) -> NDArray[Any]:
    return blob if isinstance(blob, np.ndarray) else blob.detach().cpu().numpy()
