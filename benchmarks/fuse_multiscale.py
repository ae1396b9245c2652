"""How fast is the multi-scale chain, and the peaks alone, against the two-step chain of OpenCV and of torch?

Seven scales, 15 channels, 720x1280, scale0 = 368/600, centred: one Gaussian bump per part plus 1 % noise.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as functional
from timing import Work, arguments, header, measure, report

from cpm_repro import ops

Geometry = tuple[list[list[int]], list[list[int]]]


def geometry(image: tuple[int, int]) -> Geometry:
    """Pads and sizes of seven scales, centred."""
    pads, sizes = [], []
    for k in range(7):
        scale = 368 / 600 * (0.7 + 0.1 * k)
        size = [math.ceil(side * scale) for side in image]
        up, left = (184 - math.floor(side / 2 * scale + 0.5) for side in image)
        pads.append([up, left, 368 - up - size[0], 368 - left - size[1]])
        sizes.append(size)
    return pads, sizes


def bump_maps(channels: int) -> torch.Tensor:
    """(7, C, 46, 46): a bump per part and its background, with noise."""
    generator = torch.Generator().manual_seed(0)
    axis = torch.arange(46.0)
    at = torch.rand(channels - 1, 2, generator=generator) * 36 + 5
    parts = torch.exp(
        -((axis[:, None] - at[:, 1, None, None]) ** 2 + (axis - at[:, 0, None, None]) ** 2) / 1.5
    )
    maps = torch.cat([parts, 1 - parts.amax(0, keepdim=True)])
    return maps + 0.01 * torch.randn(7, channels, 46, 46, generator=generator)


def opencv_chain(
    maps: np.ndarray, pads: list[list[int]], sizes: list[list[int]], image: tuple[int, int]
) -> np.ndarray:
    """Two cubic resizes per scale with OpenCV: x8, undo the padding, to the image; mean."""
    total = np.zeros((*image, maps.shape[1]), np.float32)
    for belief, (up, left, _, _), (height, width) in zip(maps, pads, sizes, strict=True):
        large = cv2.resize(
            np.ascontiguousarray(belief.transpose(1, 2, 0)), (368, 368), interpolation=cv2.INTER_CUBIC
        )
        whole = np.zeros((height, width, maps.shape[1]), np.float32)
        whole[:, :, -1] = 1
        y0, y1, x0, x1 = max(0, -up), min(height, 368 - up), max(0, -left), min(width, 368 - left)
        whole[y0:y1, x0:x1] = large[y0 + up : y1 + up, x0 + left : x1 + left]
        # OpenCV resizes at most 4 channels at a time with cubic weights in its fast path; it takes all here.
        total += cv2.resize(whole, image[::-1], interpolation=cv2.INTER_CUBIC)
    return total / len(maps)


def torch_chain(
    maps: torch.Tensor, pads: list[list[int]], sizes: list[list[int]], image: tuple[int, int]
) -> torch.Tensor:
    """The same two steps with F.interpolate."""
    total = torch.zeros(maps.shape[1], *image, device=maps.device)
    for belief, (up, left, down, right), _ in zip(maps, pads, sizes, strict=True):
        large = functional.interpolate(belief[None], scale_factor=8.0, mode="bicubic")
        whole = functional.pad(large, [-left, -right, -up, -down])
        total += functional.interpolate(whole, size=image, mode="bicubic", antialias=True)[0]
    return total / len(maps)


def main() -> None:
    """Print the report."""
    options = arguments(__doc__ or "")
    image = (90, 160) if options.quick else (720, 1280)
    channels = 15
    device = "cuda" if torch.cuda.is_available() else "cpu"
    maps, (pads, sizes) = bump_maps(channels).to(device), geometry(image)
    full = ops.fuse_multiscale(maps, pads, sizes, image)
    if options.quick or device == "cpu":
        expected = ops.fuse_multiscale(maps[:, -2:], pads, sizes, image, backend="reference")
        torch.testing.assert_close(full[-2:], expected, rtol=0, atol=1e-5)
    xy, score = ops.fuse_multiscale_peaks(maps, pads, sizes, image)
    assert torch.equal(score, full.amax((1, 2))), "peaks differ from the maxima of the full maps"
    assert torch.equal(full[torch.arange(channels), xy[:, 1].long(), xy[:, 0].long()], score)
    table: dict[str, Work] = {
        "fill": lambda: full.fill_(0.5),
        "fuse_multiscale": lambda: ops.fuse_multiscale(maps, pads, sizes, image, out=full),
        "fuse_multiscale, mode=opencv": lambda: ops.fuse_multiscale(
            maps, pads, sizes, image, mode="opencv", out=full
        ),
        "fuse_multiscale_peaks": lambda: ops.fuse_multiscale_peaks(maps, pads, sizes, image),
        "fuse_multiscale, then amax": lambda: ops.fuse_multiscale(maps, pads, sizes, image, out=full).amax(
            (1, 2)
        ),
        "eager torch, two steps": lambda: torch_chain(maps, pads, sizes, image),
    }
    if device == "cpu":
        array = maps.numpy()
        table["OpenCV/NumPy, two steps"] = lambda: opencv_chain(array, pads, sizes, image)
    else:
        chain = torch.compile(torch_chain, dynamic=False)
        table["torch.compile, two steps"] = lambda: chain(maps, pads, sizes, image)
    times = measure(table, rounds=3 if options.quick else 11, budget_s=60)
    lines = header(f"fuse_multiscale: 7 scales, {channels} channels, {image[0]}x{image[1]}")
    work = channels * image[0] * image[1] * 42
    lines += ["| way | ms | against fuse_multiscale |", "| --- | ---: | ---: |"]
    for name, seconds in times.items():
        lines.append(f"| {name} | {seconds * 1e3:.2f} | {seconds / times['fuse_multiscale']:.2f}x |")
    lines += [
        "",
        f"Write {full.numel() * 4 / 1e6:.0f} MB (fill's time) and {work / 1e6:.0f} million multiply-adds.",
    ]
    report(lines, options.out)


if __name__ == "__main__":
    main()
