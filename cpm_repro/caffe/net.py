"""CaffeNet: a PyTorch module from a prototxt, with Caffe's blobs, phases and way of loading weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cpm_repro.caffe import layers as learned
from cpm_repro.caffe import layers_plain as plain
from cpm_repro.caffe.caffemodel import in_list, read_caffemodel, write_caffemodel
from cpm_repro.caffe.graph import DATA_LAYERS, NetState, Shape, active_layers, input_shapes
from cpm_repro.caffe.prototxt import read_prototxt
from cpm_repro.caffe.schema import new
from cpm_repro.caffe.sharing import param_groups, share
from cpm_repro.errors import UserError

MAX_PARAMETERS = 1 << 29
"""Most parameters built: more do not fit in a caffemodel (2 GiB)."""

LAYERS: Mapping[str, type[learned.CaffeLayer]] = {
    "BatchNorm": learned.BatchNorm,
    "Bias": learned.Bias,
    "Concat": plain.Concat,
    "Convolution": learned.Convolution,
    "Deconvolution": learned.Deconvolution,
    "Dropout": plain.Elementwise,
    "ELU": plain.Elementwise,
    "Eltwise": plain.Eltwise,
    "EuclideanLoss": plain.EuclideanLoss,
    "Flatten": plain.Flatten,
    "InnerProduct": learned.InnerProduct,
    "LRN": plain.LRN,
    "PReLU": learned.PReLU,
    "Pooling": plain.Pooling,
    "Power": plain.Elementwise,
    "ReLU": plain.Elementwise,
    "Reshape": plain.Reshape,
    "Scale": learned.Scale,
    "Sigmoid": plain.Elementwise,
    "Silence": plain.Silence,
    "Slice": plain.Slice,
    "Softmax": plain.Softmax,
    "Split": plain.Split,
    "TanH": plain.Elementwise,
}
"""Caffe's type names and the modules that compute them; data layers are fed by the caller."""


@dataclass
class LoadReport:
    """What :meth:`CaffeNet.load` did, as layer names; ``str`` gives it as lines to print."""

    loaded: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)  # in the file, not in the net
    untouched: list[str] = field(default_factory=list)  # in the net, not in the file: keep their filler
    mismatched: list[str] = field(default_factory=list)  # "layer: wanted shape, got shape"; keep their filler

    def __str__(self) -> str:
        rows = (
            ("loaded", self.loaded),
            ("ignored (not in the net)", self.ignored),
            ("left at their filler (not in the file)", self.untouched),
            ("left at their filler (another shape)", self.mismatched),
        )
        return "\n".join(f"{what}: {', '.join(names) or 'none'}" for what, names in rows)


class CaffeNet(nn.Module):
    """A net built from any CPM-family prototxt; sub-modules bear the layers' names.

    Called with its input blobs by name, it returns every blob by name; a blob that later layers change in
    place is returned as they left it, as in Caffe. Inputs that the wanted blobs do not need may be left
    out of the call.

    Args:
        prototxt: path, or a NetParameter message.
        phase: "TEST" or "TRAIN"; with ``level`` and ``stages`` it selects the layers, and TRAIN switches
            dropout and batch statistics on.
        input_shapes: shapes of input blobs that the file does not tell (or tells otherwise).
        seed: seed of the fillers; None draws from torch's global generator.

    Raises:
        UserError: an unknown layer type (named), wiring that Caffe refuses, shapes that do not fit, a layer
            with weights whose name another has too: to which of them a file's weights go, no name tells.
    """

    def __init__(
        self,
        prototxt: str | Path | Any,
        phase: str = "TEST",
        *,
        level: int = 0,
        stages: Sequence[str] = (),
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        net = read_prototxt(prototxt) if isinstance(prototxt, (str, Path)) else prototxt
        self.net_name: str = net.name
        self.message = net
        state = NetState(phase, level or net.state.level, (*net.state.stage, *stages))
        self._layers = active_layers(net, state)
        self._refuse_unknown()
        self.inputs: dict[str, Shape] = {}
        self.inputs = self._build(net, input_shapes or {})
        share(self.steps())
        for group in self.param_groups():
            # As in Caffe: what does not move has no gradient, which clip_gradients would count.
            group["params"][0].requires_grad_(group["lr_mult"] != 0)
        self.train(phase == "TRAIN")
        self.fill(seed)

    def fill(self, seed: int | None = None) -> None:
        """Give every learned array its filler's values."""
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        done: set[int] = set()  # a shared array takes the filler of the first layer that has it
        for _, module in self.steps():
            module.fill(generator, done)

    def steps(self) -> list[tuple[Any, learned.CaffeLayer]]:
        """(LayerParameter, module) of every layer that computes, in order."""
        return [(layer, self._modules[key]) for layer, key in self._keys]  # type: ignore[misc]

    def forward(self, wanted: Sequence[str] | None = None, /, **inputs: Tensor) -> dict[str, Tensor]:
        """Run the net.

        Args:
            wanted: names of the blobs to return; None returns all. Others are freed as soon as possible.
            inputs: the input blobs, float tensors or arrays (N, C, H, W), taken in the dtype of the net's
                weights; N, H and W may differ from the file's.

        Raises:
            UserError: an input is missing, unknown, not of floats or has other channels; sizes on which Caffe
                aborts.
            TypeError: ``wanted`` is no list of names; inputs are given by name.
        """
        if wanted is not None and (isinstance(wanted, (str, Tensor)) or not isinstance(wanted, Iterable)):
            named = ", ".join(f"{name}=..." for name in self.inputs)
            raise TypeError(
                f"wanted a list of blob names, got {type(wanted).__name__}; inputs go by name: {named}"
            )
        blobs = self._checked_inputs(inputs)
        steps = self._needed(wanted)
        last_use = {blob: index for index, (layer, _) in enumerate(steps) for blob in layer.bottom}
        for index, (layer, module) in enumerate(steps):
            missing = [blob for blob in layer.bottom if blob not in blobs]
            if missing:
                raise UserError(
                    f"net {self.net_name!r} needs input {missing[0]!r}, got {', '.join(inputs) or 'none'}"
                )
            tops = module(*_bottoms(layer, blobs))
            tops = (tops,) if isinstance(tops, Tensor) else tops
            blobs.update(zip(layer.top, tops, strict=True))
            if wanted is not None:
                for blob in {*layer.bottom, *layer.top}:
                    if blob not in wanted and last_use.get(blob, -1) <= index:
                        blobs.pop(blob, None)
        return blobs if wanted is None else {blob: blobs[blob] for blob in wanted}

    @contextmanager
    def still(self) -> Iterator[None]:
        """Inside, what passes through the net leaves no trace in BatchNorm's statistics."""
        norms = [module for _, module in self.steps() if isinstance(module, learned.BatchNorm)]
        modes = [module.training for module in norms]
        for module in norms:
            module.training = False
        try:
            yield
        finally:
            for module, training in zip(norms, modes, strict=True):
                module.training = training

    def objective(self, blobs: Mapping[str, Tensor]) -> Tensor:
        """The number Caffe minimises: the sum of all losses times their ``loss_weight`` (1 where not set)."""
        return torch.stack([weight * blobs[top].sum() for top, weight in self.loss_weights()]).sum()

    def loss_weights(self) -> list[tuple[str, float]]:
        """(top, weight) of everything that the objective adds.

        Raises:
            UserError: it adds nothing.
        """
        found: list[tuple[str, float]] = []
        for layer, _ in self.steps():
            usual = 1.0 if layer.type.endswith("Loss") else 0.0
            weights = list(layer.loss_weight) or [usual] * len(layer.top)
            found += [(top, weight) for top, weight in zip(layer.top, weights, strict=False) if weight]
        if not found:
            raise UserError(f"net {self.net_name!r} has no loss layer in this phase")
        return found

    def param_groups(self) -> list[dict[str, Any]]:
        """One optimiser group per learned array, in Caffe's order, with ``lr_mult`` and ``decay_mult``."""
        return param_groups(self.steps())

    def load(
        self, weights: str | Path | Mapping[str, Sequence[Any]], *, skip_mismatched: bool = False
    ) -> LoadReport:
        """Load a caffemodel (or {layer: [arrays]}) by layer name, as Caffe does.

        Layers the net lacks are ignored, layers the file lacks keep their values; the report lists both.

        Raises:
            UserError: the file is not readable, or arrays differ in number or shape (all are listed; with
                ``skip_mismatched`` they keep their filler and are reported instead).
            TypeError: arrays that are in no list, as those of a state dict: by name none of them would fit.
        """
        source = str(weights) if isinstance(weights, (str, Path)) else "weights"
        if isinstance(weights, (str, Path)):
            arrays: Mapping[str, Sequence[Any]] = read_caffemodel(weights)
        else:
            arrays = {name: in_list(name, own) for name, own in weights.items()}
        ours = {layer.name: module for layer, module in self.steps() if module.blob_names}
        report = LoadReport(
            ignored=[name for name in arrays if name not in ours],
            untouched=[name for name in ours if name not in arrays],
        )
        fitting: dict[str, list[Any]] = {}
        for name, module in ours.items():
            if name in arrays:
                wanted = [tuple(blob.shape) for blob in module.blobs()]
                got = [tuple(np.shape(array)) for array in arrays[name]]
                if [_plain_shape(shape) for shape in wanted] == [_plain_shape(shape) for shape in got]:
                    fitting[name] = list(arrays[name])
                else:
                    report.mismatched.append(f"{name}: wanted {_show(wanted)}, got {_show(got)}")
        if report.mismatched and not skip_mismatched:
            raise UserError(f"{source} does not fit net {self.net_name!r}: " + "; ".join(report.mismatched))
        for name, values in fitting.items():
            with torch.no_grad():
                for blob, value in zip(ours[name].blobs(), values, strict=True):
                    given = value if isinstance(value, Tensor) else torch.as_tensor(value, device=blob.device)
                    blob.copy_(given.reshape(blob.shape))
        report.loaded = list(fitting)
        return report

    def weights(self) -> dict[str, list[np.ndarray[Any, Any]]]:
        """{layer: [arrays]} of the net as it stands, in Caffe's order."""
        return {
            layer.name: [blob.detach().cpu().numpy() for blob in module.blobs()]
            for layer, module in self.steps()
            if module.blob_names
        }

    def save(self, path: str | Path) -> None:
        """Write the net's weights, with the layers of its phase, as a caffemodel."""
        write_caffemodel(path, self.weights(), new("NetParameter", name=self.net_name, layer=self._layers))

    def _refuse_unknown(self) -> None:
        known = {*LAYERS, *DATA_LAYERS}
        for layer in self._layers:
            if layer.type not in known:
                raise UserError(
                    f"layer {layer.name!r}: unknown layer type {layer.type!r}; "
                    f"known: {', '.join(sorted(known))}"
                )

    def _build(self, net: Any, given: Mapping[str, Sequence[int]]) -> dict[str, Shape]:
        """Make all modules, following shapes through the net on the meta device (nothing is allocated)."""
        inputs = input_shapes(net, self._layers, given)
        blobs = {name: torch.empty(shape, device="meta") for name, shape in inputs.items()}
        self._keys: list[tuple[Any, str]] = []
        names = Counter(layer.name for layer in self._layers)
        total = 0
        for layer in self._layers:
            if layer.type in DATA_LAYERS:
                continue
            bottoms = [blobs[blob] for blob in layer.bottom]
            try:
                with torch.device("meta"), torch.no_grad():
                    module = LAYERS[layer.type](layer, [tuple(blob.shape) for blob in bottoms])
                    tops = module(*bottoms)
            except (RuntimeError, OverflowError, ValueError, IndexError) as error:  # torch refuses a size
                reason = (str(error).splitlines() or ["overflow"])[0]
                raise UserError(f"layer {layer.name!r}: {reason}") from error
            if module.blob_names and names[layer.name] > 1:
                raise UserError(
                    f"net {self.net_name!r}: two layers are called {layer.name!r}, one of them with weights"
                )
            _check_entries(layer, module)
            blobs.update(zip(layer.top, (tops,) if isinstance(tops, Tensor) else tops, strict=True))
            total += sum(blob.numel() for blob in module.blobs())
            if total > MAX_PARAMETERS:
                raise UserError(
                    f"layer {layer.name!r}: the net would have more than {MAX_PARAMETERS} parameters, "
                    f"which no caffemodel can hold"
                )
            key = self._module_key(layer.name)
            self.add_module(key, module)
            self._keys.append((layer, key))
        self.to_empty(device="cpu")
        return inputs

    def _module_key(self, name: str) -> str:
        """The layer's name, or the nearest thing to it that a sub-module may be called."""
        key = name.replace(".", "_") or "_"
        while hasattr(self, key):
            key += "_"
        return key

    def _checked_inputs(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        blobs = {}
        weight = next(self.parameters(), None)
        for name, value in inputs.items():
            shape = self.inputs.get(name)
            if shape is None:
                raise UserError(
                    f"net {self.net_name!r} has no input {name!r}; it has {', '.join(self.inputs)}"
                )
            blob = _float_tensor(name, value, torch.device("cpu") if weight is None else weight.device)
            if blob.ndim != len(shape) or tuple(blob.shape[1:2]) != shape[1:2] or not blob.numel():
                raise UserError(
                    f"input {name!r}: wanted shape {list(shape)} (batch and size may differ), "
                    f"got {list(blob.shape)}"
                )
            blobs[name] = blob if weight is None else blob.to(weight.dtype)
        return blobs

    def _needed(self, wanted: Sequence[str] | None) -> list[tuple[Any, learned.CaffeLayer]]:
        """The layers that the wanted blobs depend on."""
        steps = self.steps()
        if wanted is None:
            return steps
        known = {*self.inputs, *(top for layer, _ in steps for top in layer.top)}
        unknown = [blob for blob in wanted if blob not in known]
        if unknown:
            raise UserError(f"net {self.net_name!r} has no blob {', '.join(unknown)}")
        needed, open_blobs = [], set(wanted)
        for layer, module in reversed(steps):
            if open_blobs & set(layer.top):
                needed.append((layer, module))
                open_blobs |= set(layer.bottom)
        return needed[::-1]


def _float_tensor(name: str, value: Any, device: torch.device) -> Tensor:
    """An input as a tensor of floats, arrays on ``device``: Caffe's blobs hold nothing else."""
    try:
        still = isinstance(value, np.ndarray) and not value.flags.writeable  # torch would warn of it
        array = value.copy() if still else value
        blob = array if isinstance(array, Tensor) else torch.as_tensor(array, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"input {name!r}: wanted a tensor or array, got {type(value).__name__}") from error
    if not blob.is_floating_point():
        raise UserError(f"input {name!r}: wanted floats, got {str(blob.dtype).removeprefix('torch.')}")
    return blob


def _bottoms(layer: Any, blobs: Mapping[str, Tensor]) -> list[Tensor]:
    """The layer's bottoms, cut off from the gradient where ``propagate_down`` says so."""
    bottoms = [blobs[blob] for blob in layer.bottom]
    downs = list(layer.propagate_down) or [True] * len(bottoms)
    return [blob if down else blob.detach() for blob, down in zip(bottoms, downs, strict=True)]


def _check_entries(layer: Any, module: learned.CaffeLayer) -> None:
    """Caffe's counts of repeated settings: one per array, per top, per bottom."""
    for what, got, wanted in (
        ("param entries", len(layer.param), len(module.blob_names)),
        ("loss_weight", len(layer.loss_weight), len(layer.top)),
        ("propagate_down", len(layer.propagate_down), len(layer.bottom)),
    ):
        if got > wanted or (got and got != wanted and what != "param entries"):
            module.fail(f"wanted {wanted} {what} or none, got {got}")


def _plain_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape without leading ones: old files pad every shape to four axes."""
    axes = list(shape)
    while axes and axes[0] == 1:
        axes.pop(0)
    return tuple(axes)


def _show(shapes: Sequence[Sequence[int]]) -> str:
    return " and ".join(str(list(shape)) for shape in shapes) or "nothing"
