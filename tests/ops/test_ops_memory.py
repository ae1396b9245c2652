"""What operators take beside their arguments and results, and what is said where there is too little."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ops_support import skip_unless_built

from cpm_repro.ops import _checks

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


# Results that fit into the half gigabyte that is left, whose tables or steps do not.
BEYOND_MEMORY = """
import resource
import sys
from pathlib import Path

import torch

from cpm_repro import ops

torch.set_num_threads(2)
backend = sys.argv[1]
scales = (torch.rand(64, 1, 3, 3), [[0] * 4] * 64, [[24, 24]] * 64)
dot = torch.zeros(1, 1, dtype=torch.uint8)
ops.fuse_multiscale(*scales, (40, 60), backend=backend)  # threads and code are there
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 2**29, taken + 2**29))
for call in (
    lambda: ops.imresize(dot, size=(1, 2**27), backend=backend),
    lambda: ops.fuse_multiscale(*scales, (1, 2**25), backend=backend),
    lambda: ops.fuse_multiscale(*([each] for each in scales), [(1, 2**25)], backend=backend),
    lambda: ops.fuse_multiscale_peaks(*scales, (4, 2**24), backend=backend),
):
    try:
        call()
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limit on memory")
def test_sizes_whose_tables_do_not_fit_into_memory_are_named(backend):
    command = [sys.executable, "-W", "ignore", "-c", BEYOND_MEMORY, backend]
    result = subprocess.run(command, capture_output=True, text=True)
    words = "must leave a result that fits into memory with the tables it takes, got"
    assert result.stdout.splitlines() == [
        f"ValueError size {words} (1, 134217728)",
        f"ValueError image_hw {words} (1, 33554432)",
        f"ValueError image_hw {words} (1, 33554432)",
        f"ValueError image_hw {words} (4, 16777216)",
    ], result.stderr


def test_other_failures_of_kernels_are_told_as_they_are():
    for error in (RuntimeError("CUDA error: an illegal memory access"), ValueError("memory"), KeyError("x")):
        with pytest.raises(type(error)) as caught, _checks.in_memory("size", (1, 1)):
            raise error
        assert caught.value is error
    for error in (MemoryError("std::bad_alloc"), torch.OutOfMemoryError("CUDA out of memory")):
        with (
            pytest.raises(ValueError, match=r"size must leave a result that fits .*, got \(3, 4\)$"),
            _checks.in_memory("size", (1, 1), (3, 4)),
        ):
            raise error
