"""What the fusion takes beside its arguments and results, at the size of the benchmarks."""

import subprocess
import sys
from pathlib import Path

import pytest
from ops_support import skip_unless_built

# kB; the full-size maps would be 55,296, one scale of one channel 3,600. Less than 2,000 is a must;
# measured are 270 to 430 and 430 to 560.
LIMITS = {"fuse_multiscale": 700, "fuse_multiscale_peaks": 900}

CHILD = """
import sys
from pathlib import Path

import torch

from cpm_repro import ops

def kilobytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))

torch.set_num_threads(2)
maps, image = torch.rand(7, 15, 46, 46), (720, 1280)
pads, sizes = [], []
for step in range(7):
    size = [-int(-side * 368 / 600 * (0.7 + 0.1 * step) // 1) for side in image]
    up, left = (368 - size[0]) // 2, (368 - size[1]) // 2
    pads.append([up, left, 368 - up - size[0], 368 - left - size[1]])
    sizes.append(size)
out = torch.zeros(15, *image)
calls = {
    "fuse_multiscale": lambda hw, full: ops.fuse_multiscale(maps, pads, sizes, hw, out=full, backend="cpu"),
    "fuse_multiscale_peaks": lambda hw, _: ops.fuse_multiscale_peaks(maps, pads, sizes, hw, backend="cpu"),
}
call = calls[sys.argv[1]]
call((40, 60), None)  # threads and code are there
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = kilobytes("VmRSS:")
call(image, out)
print(kilobytes("VmHWM:") - before)
"""


@pytest.mark.parametrize("name", LIMITS)
def test_seven_scales_take_less_than_a_megabyte(name):
    skip_unless_built()
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux's /proc")
    command = [sys.executable, "-W", "ignore", "-c", CHILD, name]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0 < int(result.stdout) < LIMITS[name], result.stdout
