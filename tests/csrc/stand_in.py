"""Compiles the CUDA sources with the C++ compiler and a stand-in for the launch, for tests without a GPU."""

from __future__ import annotations

import ctypes
import math
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from compiled import LIBRARYS_OWN, compiler

ROOT = Path(__file__).resolve().parents[2]
CUDA = ROOT / "csrc" / "cuda"
FLAGS = ("-std=c++17", "-O1", "-ffp-contract=off", f"-I{ROOT}/tests/csrc/cuda_stand_in", f"-I{CUDA}")
TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}

FUSE_CASES = {
    "enlarging, two tiles wide": (
        (40, 300),
        [[100, 34, 100, 34], [90, -16, 90, -16]],
        [[168, 300], [188, 400]],
        8,
        46,
    ),
    "shrinking": ((17, 20), [[-40, -60, -40, -60]], [[448, 488]], 8, 46),
    "off the edge": ((33, 20), [[-30, 20, 30, -20]], [[40, 40]], 8, 5),
    "two blocks high, the last cut": ((150, 140), [[13, 18, 13, 18]], [[150, 140]], 8, 22),
    "one pixel": ((1, 1), [[10, 12, 10, 12]], [[20, 16]], 4, 10),
}
"""Cases of the fusion: image, pads, sizes, stride, cells; a block makes 128 rows of 64 pixels."""


def build(folder: Path, replaced: dict[str, str] | None = None, rest: Path | None = None) -> ctypes.CDLL:
    """A library of csrc/cuda/*.cu and the entry points of ``stand_in_api.cpp``: see ``compiled_objects``."""
    objects = compiled_objects(folder, "stand_in_api.cpp", ("-fPIC", *LIBRARYS_OWN), replaced, rest)
    library = folder / "stand_in.so"
    subprocess.run([compiler(), "-shared", *map(str, objects), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def compiled_objects(
    folder: Path,
    entry: str,
    flags: Sequence[str],
    replaced: dict[str, str] | None = None,
    rest: Path | None = None,
) -> list[Path]:
    """Compile csrc/cuda/*.cu and ``entry`` of this folder, with the text of some files replaced.

    The other objects come from ``rest``, the folder of an earlier call, if one is given.
    """
    replaced = {
        name: text.replace('"../math/', f'"{ROOT}/csrc/math/') for name, text in (replaced or {}).items()
    }
    for name, text in replaced.items():  # its own folder is where a file looks first for what it includes
        (folder / name).write_text(text)
    objects, commands = [], []
    for source in [*sorted(CUDA.glob("*.cu")), ROOT / "tests/csrc" / entry]:
        target = folder / f"{source.name}.o"
        if source.name in replaced:
            source = folder / source.name
        elif rest is not None:
            target = rest / target.name
        if target.parent == folder:
            commands.append([compiler(), *FLAGS, *flags, "-x", "c++", "-c", str(source), "-o", str(target)])
        objects.append(target)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda command: subprocess.run(command, check=True), commands))
    return objects


def with_fault(name: str, right: str, wrong: str) -> dict[str, str]:
    """Texts of a file of csrc/cuda in which ``right`` is ``wrong``, and of what includes it."""
    texts = {name: (CUDA / name).read_text()}
    assert right in texts[name]
    texts[name] = texts[name].replace(right, wrong, 1)
    # What includes a changed copy of a header must lie beside it.
    for _ in range(len(list(CUDA.iterdir()))):
        for file in (*CUDA.glob("*.h"), *CUDA.glob("*.cu")):
            if any(f'#include "{changed}"' in file.read_text() for changed in texts):
                texts.setdefault(file.name, file.read_text())
    return texts


def shifted(shape: Sequence[int], dtype: torch.dtype, by: int) -> torch.Tensor:
    """NaN, contiguous, ``by`` elements off a boundary of 64 bytes."""
    count = math.prod(shape)
    storage = torch.full((count + by,), float("nan"), dtype=dtype)
    assert storage.data_ptr() % 64 == 0
    return storage[by:].view(shape)


def pointer(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    """Address of a contiguous tensor, or null."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def belief_maps(
    library: ctypes.CDLL,
    joints: torch.Tensor | None,
    visible: torch.Tensor,
    grid: tuple[int, int],
    stride: float,
    sigma: float,
    center: torch.Tensor | None,
    center_size: tuple[int, int],
    cutoff: bool = True,
    dtype: torch.dtype = torch.float32,
    center_sigma: float = 21.0,
    shifts: tuple[int, int] = (0, 0),
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Label and centre map as the CUDA kernel makes them, on NaN-filled outputs; None if not asked for.

    ``shifts``: how many elements off a boundary they lie.
    """
    samples, people, parts = visible.shape
    label = shifted((samples, 2 * (parts + 1), *grid), dtype, shifts[0])
    centers = shifted((samples, 1, *center_size), dtype, shifts[1])
    label, centers = None if joints is None else label, None if center is None else centers
    sizes = (ctypes.c_int * 6)(people, parts, *grid, *center_size)
    library.belief_maps.restype = ctypes.c_char_p
    codes = visible.int().contiguous()
    error = library.belief_maps(
        pointer(joints), pointer(codes), pointer(center), pointer(label), pointer(centers),
        ctypes.c_longlong(samples), sizes, ctypes.c_double(stride), ctypes.c_double(sigma),
        ctypes.c_double(center_sigma), int(cutoff), TYPES[dtype],
    )  # fmt: skip
    assert error is None
    return label, centers


def last_launch(library: ctypes.CDLL) -> list[int]:
    """Blocks, and threads of a block along x and y."""
    numbers = (ctypes.c_uint * 3)()
    library.last_launch(numbers)
    return list(numbers)


def belief_map_loss(
    library: ctypes.CDLL,
    maps: list[torch.Tensor],
    joints: torch.Tensor,
    visible: torch.Tensor,
    grad_losses: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Losses (stride 8, sigma 7) and the gradients of their sum weighted by ``grad_losses``."""
    grads = [torch.full_like(stage, float("nan")) for stage in maps]
    losses = torch.full((len(maps),), float("nan"))
    codes = visible.int().contiguous()
    samples, people, parts = joints.shape[:3]
    sizes = (ctypes.c_int * 6)(people, parts, *maps[0].shape[2:], len(maps), TYPES[maps[0].dtype])
    array = ctypes.c_void_p * len(maps)
    numbers = (
        ctypes.c_longlong(samples),
        sizes,
        ctypes.c_double(8),
        ctypes.c_double(7),
        ctypes.c_double(scale),
    )
    addresses = (pointer(joints), pointer(codes), array(*[stage.data_ptr() for stage in maps]))
    library.belief_map_loss.restype = ctypes.c_char_p
    assert library.belief_map_loss(*addresses, None, None, pointer(losses), *numbers) is None
    to = array(*[grad.data_ptr() for grad in grads])
    assert library.belief_map_loss(*addresses, to, pointer(grad_losses), None, *numbers) is None
    return losses, grads


def imresize(
    library: ctypes.CDLL, image: torch.Tensor, size: tuple[int, int], scales: tuple[float, float]
) -> torch.Tensor:
    """Both passes of imresize over (H, W, C)."""
    kinds = {torch.uint8: 0, torch.float32: 1, torch.float64: 2}
    library.resize_axis.restype = ctypes.c_char_p
    for axis in sorted((0, 1), key=lambda a: scales[a]):
        shape = list(image.shape)
        shape[axis] = size[axis]
        to = torch.full(shape, 77, dtype=image.dtype)
        outer, inner = (1, shape[1] * shape[2]) if axis == 0 else (shape[0], shape[2])
        error = library.resize_axis(
            pointer(image), pointer(to), ctypes.c_longlong(outer), ctypes.c_longlong(inner),
            image.shape[axis], size[axis], ctypes.c_double(scales[axis]), kinds[image.dtype],
        )  # fmt: skip
        assert error is None
        image = to
    return image


def fuse_multiscale(
    library: ctypes.CDLL,
    maps: torch.Tensor,
    pads: list[list[int]],
    sizes: list[list[int]],
    image: tuple[int, int],
    stride: int = 8,
    opencv: bool = False,
    row_major: bool = False,
    subpixel: bool = False,
    shift: int = 0,
    weights: Sequence[float] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Fused maps, ``shift`` elements off a boundary, and positions and values of their maxima."""
    scales, channels = maps.shape[:2]
    full = shifted((channels, *image), torch.float32, shift)
    xy, score = torch.full((channels, 2), float("nan")), torch.full((channels,), float("nan"))
    numbers = (ctypes.c_int * 11)(*maps.shape, *image, stride, 1, opencv, row_major, subpixel)
    flat = [n for (up, left, *_), size in zip(pads, sizes, strict=True) for n in (up, left, *size)]
    shares = torch.tensor(weights or [1 / scales] * scales, dtype=torch.float32)
    library.fuse_multiscale.restype = ctypes.c_char_p
    error = library.fuse_multiscale(
        pointer(maps), numbers, (ctypes.c_int * len(flat))(*map(int, flat)), pointer(shares),
        pointer(full), pointer(xy), pointer(score),
    )  # fmt: skip
    assert error is None
    return full, xy, score
