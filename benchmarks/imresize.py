"""How fast is MATLAB's imresize, against OpenCV's cubic (another kernel and result)?"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from timing import Work, arguments, header, measure, report

from cpm_repro import ops


def main() -> None:
    """Print the report."""
    options = arguments(__doc__ or "")
    side = (90, 160, 3) if options.quick else (720, 1280, 3)
    image = np.random.default_rng(0).integers(0, 256, side, dtype=np.uint8)
    lines = header(f"imresize: {side[0]}x{side[1]}x3 uint8")
    lines += ["| scale | way | ms |", "| ---: | --- | ---: |"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tensor = torch.from_numpy(image).to(device)
    for scale in (0.43, 0.8, 1.3):
        got = ops.imresize(tensor, scale).cpu().int()
        expected = ops.imresize(torch.from_numpy(image), scale, backend="reference").int()
        assert (got - expected).abs().max() <= 1, "imresize differs from the reference"
        assert (got != expected).float().mean() < 1e-5
        table: dict[str, Work] = {
            "cpm_repro": lambda s=scale: ops.imresize(tensor, s),  # type: ignore[misc]
            "OpenCV INTER_CUBIC": lambda s=scale: cv2.resize(
                image, None, fx=s, fy=s, interpolation=cv2.INTER_CUBIC
            ),  # type: ignore[misc]
        }
        for name, seconds in measure(table, rounds=3 if options.quick else 15, budget_s=10).items():
            lines.append(f"| {scale} | {name} | {seconds * 1e3:.2f} |")
    report(lines, options.out)


if __name__ == "__main__":
    main()
