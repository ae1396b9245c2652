"""Argument checks shared by the operators: one sentence that names the argument, what was wanted and got."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import operator
import sys
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from numbers import Integral, Real
from typing import Any

import torch
from torch._subclasses.fake_tensor import is_fake

from cpm_repro.memory import is_of_memory
from cpm_repro.ops import _library
from cpm_repro.ops._shown import shown

MAX_SIDE = 2**30  # so that a side and a block more still fit 32 bits in the kernels
# Of a sample: the place of one, a person on, and the number of its label's channels fit 32 bits too.
MAX_JOINTS = 2**29
# Fixed arrays in csrc/math; tests compare the numbers.
MAX_STAGES, MAX_SCALES, MAX_STRIDE = 32, 64, 64
MAX_SHRINKING = 256  # scaled pixels per image pixel; bounds the width of the antialiasing kernel
_WIDER_CODES = (torch.int64, torch.uint32, torch.uint64)  # than the kernels' int32
MAX_PEAK_SIDE, MAX_PEAK_PIXELS = 2**24, 2**32 - 1  # of images of which only peaks are wanted
FLOAT32_TINY, FLOAT32_MAX = 2.0**-126, (2 - 2.0**-23) * 2.0**127
FLOAT64_MAX = sys.float_info.max
OUTPUT_TYPES = (torch.float32, torch.float16, torch.bfloat16)
# What can be made float32 and int32: torch has types, such as two floats in a byte, that it cannot convert.
FLOATS = frozenset(
    {
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz),
        torch.float8_e8m0fnu,
    }
)
_WHOLE = frozenset(
    {
        *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
        *(torch.int8, torch.int16, torch.int32, torch.int64),
    }
)


def tensor(name: str, value: object) -> torch.Tensor:
    """``value``, if it is an ordinary (dense) tensor."""
    given = _strided(name, value)
    if given.is_nested:
        raise _nested(name)
    return given


def _strided(name: str, value: object) -> torch.Tensor:
    """`tensor`, or a nested one, which has this layout but no shape."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got layout {value.layout}")
    return value


def _nested(name: str) -> TypeError:
    return TypeError(f"{name} must be a dense tensor, got a nested one")


def tensors(name: str, value: object, one: str) -> list[torch.Tensor]:
    """``value`` as a list of tensors, one per ``one``."""
    if not isinstance(value, (tuple, list)) and (
        isinstance(value, (torch.Tensor, str)) or not isinstance(value, Sequence)
    ):
        raise TypeError(f"{name} must be a list with one tensor per {one}, got {type(value).__name__}")
    return [
        item
        if isinstance(item, torch.Tensor) and item.layout == torch.strided and not item.is_nested
        else tensor(f"{name}[{index}]", item)
        for index, item in enumerate(value)
    ]


def positions(name: str, value: object, shape: str) -> torch.Tensor:
    """``value`` as contiguous float32, if it is a floating-point tensor of ``shape``, such as "(N, 2)"."""
    given = _strided(name, value)
    plain = given.dtype == torch.float32
    if not plain and given.dtype not in FLOATS:
        raise TypeError(f"{name} must be a floating-point tensor of pixels, got {given.dtype}")
    try:
        sides = given.shape
    except RuntimeError:  # cheaper than to ask every tensor whether it is nested
        raise _nested(name) from None
    if len(sides) != shape.count(",") + 1 or sides[-1] != 2:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(sides)}")
    # Under torch.compile it would be a promise about sizes that are not known yet.
    if not torch.compiler.is_compiling() and not 0 < given.numel() < MAX_JOINTS:
        _few_enough(name, sides)
    if plain and not given.requires_grad and given.is_contiguous():
        return given  # each of the steps below costs a microsecond, even where it changes nothing
    return given.detach().to(torch.float32).contiguous()


def _few_enough(name: str, sides: Sequence[int]) -> None:
    """What kernels can count: samples, and each one's people, parts and joints (no parts at all included)."""
    if max(sides) >= MAX_SIDE or math.prod(sides[1:-1]) >= MAX_JOINTS:
        limits = f"fewer than {MAX_SIDE} samples, people and parts and {MAX_JOINTS} joints per sample"
        raise ValueError(f"{name} must have {limits}, got {tuple(sides)}")


def visibility(value: object, joints: torch.Tensor) -> torch.Tensor:
    """``value`` as contiguous int32 codes, if it is an integer tensor that fits ``joints``."""
    given = _strided("visible", value)
    plain = given.dtype == torch.int32
    if not plain and given.dtype not in _WHOLE:
        raise TypeError(f"visible must be an integer tensor of Visibility codes, got {given.dtype}")
    try:
        sides = given.shape
    except RuntimeError:
        raise _nested("visible") from None
    if sides != joints.shape[:-1]:
        raise ValueError(f"visible must have shape {tuple(joints.shape[:-1])}, got {tuple(sides)}")
    same_device("visible", given, "joints", joints)
    if plain and given.is_contiguous():
        return given
    if given.dtype in _WIDER_CODES:  # held to what tells codes from others: 2**32 must not become 0
        signed = given.view(torch.int64) if given.dtype == torch.uint64 else given.long()
        given = signed.clamp(-1, 3)
    return given.int().contiguous()  # quicker than `to`, which has arguments to read


def same_device(name: str, value: torch.Tensor, other: str, reference: torch.Tensor) -> None:
    """Both tensors live on one device."""
    if value.device != reference.device:
        raise ValueError(f"{name} must be on the device of {other} ({reference.device}), got {value.device}")


def choice(name: str, value: object, allowed: Sequence[str]) -> None:
    """Refuse what is none of the ``allowed`` names."""
    if not isinstance(value, str) or value not in allowed:
        *others, last = map(repr, allowed)
        raise ValueError(f"{name} must be {', '.join(others)} or {last}, got {shown(value)}")


def flag(name: str, value: object) -> bool:
    """``value`` as True or False."""
    if isinstance(value, bool):
        return value
    try:
        return bool(value)
    except (TypeError, ValueError, RuntimeError):  # an array of several values is neither
        raise TypeError(f"{name} must be True or False, got {shown(value)}") from None


def count(value: object) -> int:
    """How many entries ``value`` has; -1 if it has no length."""
    try:
        return len(value)  # type: ignore[arg-type]
    except TypeError:
        return -1


def positive(name: str, value: object) -> float:
    """``value`` as a positive finite float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{name} must be a number, got {type(value).__name__}")
        value = float(value)  # NumPy's; torch.compile's symbolic ones are an int or a float
    # Comparisons only: under torch.compile the number may be symbolic.
    if not 0 < value <= FLOAT64_MAX:
        raise ValueError(f"{name} must be positive and finite, got {shown(value)}")
    return float(value)


def positive_single(name: str, value: object) -> float:
    """`positive`, for what the kernels keep as float32."""
    number = positive(name, value)
    if not FLOAT32_TINY <= number <= FLOAT32_MAX:
        limits = f"{FLOAT32_TINY:.3g} and {FLOAT32_MAX:.3g}, what float32 holds"
        raise ValueError(f"{name} must be between {limits}, got {number}")
    return number


def whole_positive(name: str, value: object) -> int:
    """``value``, if it is a whole number from 1 to 2**63 - 1."""
    if isinstance(value, Integral) and not isinstance(value, int):
        value = int(value)  # NumPy's
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {shown(value)}")
    if value > sys.maxsize:
        raise ValueError(f"{name} must be a whole number below 2**63, got {shown(value)}")
    return value


def size(name: str, value: Sequence[int]) -> tuple[int, int]:
    """``value`` as (height, width), both from 1 to 2**30."""
    try:
        height, width = map(operator.index, value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} must be two whole numbers (height, width), got {shown(value)}") from None
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ValueError(
            f"{name} must be (height, width) between 1 and {MAX_SIDE}, got ({shown(height)}, {shown(width)})"
        )
    return height, width


def peak_size(name: str, value: tuple[int, int]) -> None:
    """Refuse images too large for peaks.

    Beyond 2**24 float32 does not hold every whole position. Kernels for GPUs number pixels in 32 bits; on a
    CPU the bounds of so many pixels take 100 MB per thread.
    """
    if max(value) > MAX_PEAK_SIDE or value[0] * value[1] > MAX_PEAK_PIXELS:
        raise ValueError(
            f"{name} must have sides of at most 2**24 and fewer than 2**32 pixels for peaks, got {value}"
        )


def map_size(name: str, value: Sequence[int]) -> tuple[int, int]:
    """`size` of a map: kernels count its cells in 32 bits."""
    height, width = size(name, value)
    if height * width >= 2**31:
        raise ValueError(f"{name} must have fewer than 2**31 cells, got {height} x {width}")
    return height, width


def output_type(dtype: torch.dtype) -> torch.dtype:
    """``dtype``, if maps can be written in it."""
    try:
        known = dtype in OUTPUT_TYPES
    except (ValueError, RuntimeError):  # an array, which compares entry by entry
        known = False
    if not known:
        raise TypeError(f"dtype must be float32, float16 or bfloat16, got {shown(dtype)}")
    return dtype


def allocate(name: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """An uninitialised result; ``name`` is the argument that decides its size."""
    if torch.compiler.is_compiling():
        return torch.empty(shape, dtype=dtype, device=device)
    try:
        return torch.empty(shape, dtype=dtype, device=device)
    except RuntimeError:  # out of memory, or more bytes than 64 bits can count
        amount = math.prod(shape) * dtype.itemsize / 1e9
        raise ValueError(
            f"{name} must leave a result that fits into memory, got {tuple(shape)} or {amount:.3g} GB"
        ) from None


def without_history(out: torch.Tensor) -> None:
    """Refuse to write over what gradients go through: a kernel's writing is no step of theirs."""
    if out.requires_grad and torch.is_grad_enabled():
        raise ValueError("out must not require gradients outside of torch.no_grad, got a tensor that does")


def overlap(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two contiguous tensors share memory; False where they have none, or none is known yet."""
    if torch.compiler.is_compiling() or _is_fake(a):
        return False
    first, second = a.data_ptr(), b.data_ptr()  # 0 where nothing is there
    return 0 < first < second + b.nbytes and second < first + a.nbytes


def _is_fake(value: torch.Tensor) -> bool:
    """Whether it is of FakeTensorMode: a shape without values."""
    return type(value) is not torch.Tensor and is_fake(value)


def written(outputs: Sequence[torch.Tensor]) -> None:
    """Tell autograd that a kernel has written into a caller's tensors, as PyTorch's own operators do.

    Where a backward pass still needs what was in them, it then ends in an error instead of another gradient.
    """
    if not torch.compiler.is_compiling():
        torch.autograd.graph.increment_version(outputs)


def in_memory(name: str, *sides: Sequence[int]) -> AbstractContextManager[None]:
    """Around kernels, which make tables for results of ``sides``: ``name`` must leave memory for them."""
    return contextlib.nullcontext() if torch.compiler.is_compiling() else _InMemory(name, sides)


class _InMemory(AbstractContextManager[None]):  # a function with @contextmanager takes a microsecond more
    def __init__(self, name: str, sides: Sequence[Sequence[int]]) -> None:
        self.name, self.sides = name, sides

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and _is_out_of_memory(error):
            wanted = "must leave a result that fits into memory with the tables it takes"
            largest = tuple(max(self.sides, key=math.prod))
            raise ValueError(f"{self.name} {wanted}, got {largest}") from None


def _is_out_of_memory(error: BaseException) -> bool:
    if not isinstance(error, Exception):
        return False
    # Of what a thread throws, the stable ABI tells only where it was called from; the work that kernels hand
    # to threads throws nothing but lack of memory.
    return is_of_memory(error) or (
        isinstance(error, RuntimeError) and str(error).startswith("torch_parallel_for(")
    )


def report_values(
    name: str, value: torch.Tensor, codes: torch.Tensor | None = None, visible: torch.Tensor | None = None
) -> None:
    """Warn once about NaN or infinite positions and refuse unknown visibility codes.

    ``value`` is contiguous float32, ``codes`` contiguous int32: what `visibility` made of ``visible``.

    Only on the CPU and outside of torch.compile, torch.func and FakeTensorMode: elsewhere looking at values
    would stall the device, or is not possible. The kernels are safe either way: such joints are not drawn.
    """
    if torch.compiler.is_compiling() or not value.is_cpu or in_torch_func():
        return
    if _is_fake(value) or _library.all_plain(value, codes):
        return
    if not math.isfinite(value.sum().item()) and not bool(torch.isfinite(value).all()):
        _warn_not_finite(name)
    if codes is not None and visible is not None:
        wrong = (codes < 0) | (codes > 2)
        if bool(wrong.any()):
            raise ValueError(f"visible must hold Visibility codes 0, 1 or 2, got {visible[wrong][0].item()}")


def in_torch_func() -> bool:
    """Whether a transform of torch.func (vmap, grad, ...) is at work, whose tensors have no memory."""
    return torch._C._functorch.peek_interpreter_stack() is not None


@functools.cache
def _warn_not_finite(name: str) -> None:
    warnings.warn(
        f"{name} holds NaN or infinite positions: they count as not visible", RuntimeWarning, stacklevel=4
    )


def whole_rows(name: str, value: Any, rows: int, columns: int) -> list[list[int]]:
    """``value`` (tensor, array or nested lists) as ``rows`` lists of ``columns`` whole numbers."""
    if torch.compiler.is_compiling() and isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be lists of whole numbers under torch.compile and export, got a tensor")
    try:
        listed = value.tolist() if hasattr(value, "tolist") else value
        table = [[int(entry) for entry in row] for row in listed]
        exact = all(
            a == b for row, given in zip(table, listed, strict=True) for a, b in zip(row, given, strict=True)
        )
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise TypeError(
            f"{name} must be a ({rows}, {columns}) table of whole numbers, got {shown(value)}"
        ) from None
    if len(table) != rows or any(len(row) != columns for row in table):
        got = (len(table), *sorted({len(row) for row in table}))
        raise ValueError(f"{name} must have shape ({rows}, {columns}), got {got}")
    if not exact or any(abs(entry) > MAX_SIDE // 2 for row in table for entry in row):
        raise ValueError(f"{name} must hold whole numbers below {MAX_SIDE // 2}, got {shown(listed)}")
    return table


def reusable(weights: Any) -> Any:
    """``weights`` for several people: what can be walked through only once becomes a list."""
    return list(itertools.islice(weights, MAX_SCALES + 1)) if hasattr(weights, "__next__") else weights


def scale_weights(weights: Sequence[float] | None, scales: int) -> list[float]:
    """``weights`` divided by their sum; equal ones when None."""
    if weights is None:
        return [1.0 / scales] * scales
    try:
        values = [float(weight) for weight in weights]
    except OverflowError:
        raise ValueError("weights must be finite, got an integer beyond float64") from None
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"weights must be numbers, one per scale ({scales}), got {shown(weights)}") from None
    if len(values) != scales:
        raise ValueError(f"weights must have one entry per scale ({scales}), got {len(values)}")
    if not all(math.isfinite(value) and value >= 0 for value in values) or not any(values):
        raise ValueError(f"weights must be finite, not negative and not all zero, got {shown(values)}")
    try:
        total = math.fsum(values)
    except OverflowError:
        raise ValueError(f"weights must have a sum that is finite, got {shown(values)}") from None
    return [value / total for value in values]
