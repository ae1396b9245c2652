"""Networks as files that other programs run: ONNX and torch.export, each measured against the module.

Letters: N batch, K parts, C maps per stage (K + 1 with background), H and W input pixels, h and w cells.
"""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpm_repro.errors import UserError
from cpm_repro.files import atomic_write
from cpm_repro.memory import fitting
from cpm_repro.model.pose_machine import PoseMachine
from cpm_repro.packages import optional_module

OPSET = 18


@dataclass(frozen=True)
class OutputParity:
    """One output of an exported file against the module on the same input: largest difference and range."""

    name: str
    largest: float
    range: float


@dataclass(frozen=True)
class ExportReport:
    """What was written and how well it agrees; ``str`` gives it as lines to print."""

    path: Path
    runner: str  # the program that ran the file, with its version
    input_shape: tuple[int, int, int, int]
    outputs: list[OutputParity]

    def __str__(self) -> str:
        shape = " x ".join(map(str, self.input_shape))
        lines = [f"wrote {self.path}, checked with {self.runner} on {shape}"]
        for row in self.outputs:
            lines.append(f"{row.name:<12} largest difference {row.largest:.2e} (values span {row.range:.2e})")
        return "\n".join(lines)


class StageMaps(nn.Module):
    """The network with one output per stage, (N, C, h, w) each."""

    def __init__(self, net: PoseMachine, stages: int) -> None:
        super().__init__()
        self.net, self.stages = net, stages

    def forward(self, data: Tensor) -> tuple[Tensor, ...]:
        """Data (N, 4 or 3, H, W) -> belief maps of every stage."""
        return tuple(self.net(data, self.stages))


class Keypoints(nn.Module):
    """The network with its peaks inside: keypoints (N, K, 3) = x, y (0-based input pixels) and score.

    The last stage's part maps (no background) are enlarged to input pixels by PyTorch's bicubic rule
    (a = -0.75, half-pixel centres); the first maximum in row-major order is the joint. The release enlarges
    by MATLAB's rule (a = -0.5), over several scales: that is ``cpm_repro.ops.fuse_multiscale_peaks``.
    """

    def __init__(self, net: PoseMachine, stages: int) -> None:
        super().__init__()
        self.net, self.stages = net, stages

    def forward(self, data: Tensor) -> tuple[Tensor]:
        """Data (N, 4 or 3, H, W) -> (N, K, 3), alone in a tuple."""
        parts = self.net(data, self.stages)[-1][:, : self.net.parts]
        large = F.interpolate(parts, scale_factor=float(self.net.stride), mode="bicubic", align_corners=False)
        score, index = large.flatten(2).max(dim=2)
        width = large.shape[-1]
        y = torch.div(index, width, rounding_mode="floor")
        return (torch.stack(((index - y * width).to(score.dtype), y.to(score.dtype), score), dim=2),)


def export_onnx(
    net: PoseMachine,
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    stages: int | None = None,
    peaks: bool = False,
    notes: Mapping[str, str] | None = None,
) -> ExportReport:
    """Write ``net`` as one ONNX file (input ``data``, free batch, fixed size) and run it in onnxruntime.

    Args:
        net: any pose machine, float32 on the CPU; its training mode is left as it was.
        path: the ``.onnx`` file.
        size: input (height, width) in pixels; None takes the released deploy size.
        stages: run only so many; None runs all.
        peaks: outputs ``keypoints`` (N, K, 3) as in :class:`Keypoints` instead of ``stage1`` ... maps.
        notes: texts that the file keeps: ONNX's metadata, torch.export's extra files.

    Returns:
        The largest difference of each output between onnxruntime and the module, on one random input.

    Raises:
        UserError: onnx, onnxscript or onnxruntime is not installed; a size the network does not accept; a
            number of stages it does not have; too little memory for the run that measures.
        TypeError: a net in another type or on another device.
        EnvironmentFailure: the file cannot be written.
    """
    _require("onnx", "onnxscript", "onnxruntime")
    with _prepared(net, size, stages, peaks) as (module, names, data):
        with _quiet():
            program = torch.onnx.export(
                module,
                (data,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["data"],
                output_names=names,
                dynamic_shapes={"data": {0: torch.export.Dim("batch")}},
                verbose=False,
            )
        assert program is not None
        proto = program.model_proto
        for key, value in (notes or {}).items():
            proto.metadata_props.add(key=key, value=value)
        content = proto.SerializeToString()
        report = ExportReport(Path(path), *_run_onnx(content, module, names, data))
        with atomic_write(path) as file:
            file.write(content)
        return report


def export_program(
    net: PoseMachine,
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    stages: int | None = None,
    peaks: bool = False,
    notes: Mapping[str, str] | None = None,
) -> ExportReport:
    """Write ``net`` as a torch.export file (``.pt2``, free batch, fixed size), load it again and compare.

    Arguments, result and errors as in :func:`export_onnx`.
    """
    with _prepared(net, size, stages, peaks) as (module, names, data):
        dynamic = {"data": {0: torch.export.Dim("batch")}}
        program = torch.export.export(module, (data,), dynamic_shapes=dynamic)
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files=dict(notes or {}))
        again = torch.export.load(io.BytesIO(buffer.getvalue())).module()
        with torch.no_grad():
            parity = _parity(names, again(data), module(data))
        with atomic_write(path) as file:
            file.write(buffer.getvalue())
        return ExportReport(Path(path), f"torch.export {torch.__version__}", _shape(data), parity)


@contextmanager
def _prepared(
    net: PoseMachine, size: tuple[int, int] | None, stages: int | None, peaks: bool
) -> Iterator[tuple[nn.Module, list[str], Tensor]]:
    """(module to export, its output names, an example input of batch 2) with ``net`` in eval mode."""
    for name, weight in net.named_parameters():
        if weight.dtype != torch.float32 or weight.device.type != "cpu":
            raise TypeError(
                f"net: wanted float32 weights on the CPU, got {weight.dtype} on {weight.device} in {name}"
            )
    height, width = size or net.description.input_shape[2:]
    for what, side in (("height", height), ("width", width)):
        if not net.accepts(side):
            wanted = " or ".join(map(str, net.nearest_sizes(side)))
            raise UserError(f"export: {net.arch} wanted a {what} of {wanted}, got {side}")
    count = net.stages if stages is None else stages
    if not 1 <= count <= net.stages:
        raise UserError(f"export: wanted 1 to {net.stages} stages, got {stages}")
    was_training = net.training
    net.eval()
    module = (Keypoints if peaks else StageMaps)(net, count).eval()
    names = ["keypoints"] if peaks else [f"stage{i + 1}" for i in range(count)]
    generator = torch.Generator().manual_seed(0)
    # A batch of 2: the exporter would take a batch of 1 for a constant.
    shape = (2, net.input_channels, height, width)
    memory = fitting(f"a trial of 2 x {shape[1]} x {height} x {width}", "give a smaller size")
    try:
        with memory:
            data = torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu") - 0.5
            yield module, names, data
    finally:
        net.train(was_training)


def _run_onnx(
    content: bytes, module: nn.Module, names: list[str], data: Tensor
) -> tuple[str, tuple[int, int, int, int], list[OutputParity]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its errors are raised, and need not be written to the terminal too
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    got = session.run(names, {"data": data.numpy()})
    with torch.no_grad():
        want = module(data)
    runner = f"onnxruntime {onnxruntime.__version__}"
    return runner, _shape(data), _parity(names, [torch.from_numpy(np.asarray(array)) for array in got], want)


def _parity(names: list[str], got: Any, want: Any) -> list[OutputParity]:
    if names == ["keypoints"]:  # positions and scores have different units
        names, got, want = ["xy", "score"], *([both[0][..., :2], both[0][..., 2]] for both in (got, want))
    return [
        OutputParity(name, (a - b).abs().max().item(), (b.max() - b.min()).item())
        for name, a, b in zip(names, got, want, strict=True)
    ]


def _shape(data: Tensor) -> tuple[int, int, int, int]:
    n, c, h, w = data.shape
    return n, c, h, w


def _require(*packages: str) -> None:
    # onnxruntime's builds of 1.29 and newer tell their maker which models run, from the import on. Who wants
    # that sets it to 0.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    for package in packages:
        optional_module(package, "export", "ONNX export")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own progress and deprecation notes out of the user's terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
