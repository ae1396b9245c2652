"""Too little memory is one line, whoever finds out."""

import cv2
import numpy as np
import pytest
import torch

from cpm_repro.errors import UserError
from cpm_repro.memory import fitting, machine_memory


class Fail(Exception):
    """As onnxruntime calls its own."""


def torch_on_a_processor():
    torch.empty(2**50)  # more than any processor can address


def torch_on_a_gpu():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total")


def numpy_s():
    np.empty((2**40, 2**10), np.uint8)


def opencv_s():
    cv2.resize(np.zeros((2, 2), np.uint8), (2**20, 2**30))


def onnxruntime_s():
    raise Fail(
        "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Conv node. Status "
        "Message: bfc_arena.cc:360 Failed to allocate memory for requested buffer of size 2048000000"
    )


def python_s():
    raise MemoryError


@pytest.mark.parametrize(
    ("full", "tried"),
    [
        (torch_on_a_processor, r" \(tried to allocate \d{16} bytes\)"),
        (torch_on_a_gpu, r" \(tried to allocate 2\.00 GiB\)"),
        (numpy_s, r" \(tried to allocate 1\.00 PiB\)"),
        (opencv_s, r" \(tried to allocate 1125899906842624 bytes\)"),
        (onnxruntime_s, ""),
        (python_s, ""),
    ],
)
def test_an_array_that_does_not_fit_is_one_line_that_says_what_and_what_to_lower(full, tried):
    line = f"^a crop does not fit into memory{tried}: cut it$"
    with pytest.raises(UserError, match=line), fitting("a crop", "cut it"):
        full()


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not match"), ValueError("memory"), UserError("no memory of it")]
)
def test_other_errors_than_of_memory_stay_what_they_are(error):
    with pytest.raises(type(error)) as caught, fitting("a crop", "cut it"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("own", "files", "bound"),
    [
        (
            "0::/job/step\n",
            {"memory.max": "max", "job/memory.max": "7000", "job/step/memory.max": "max"},
            7000,
        ),
        ("0::/\n", {"memory.max": "5000"}, 5000),  # in a container, which sees its own group alone
        ("4:memory:/docker/x\n0::/\n", {"memory/memory.limit_in_bytes": "6000"}, 6000),
        (
            "4:cpu,memory:/a\n",
            {"memory/memory.limit_in_bytes": str(2**62), "memory/a/memory.limit_in_bytes": "8"},
            8,
        ),
        ("0::/\n", {"memory.max": "max"}, None),
        ("3:cpuset:/a\n0::/\n", {}, None),
    ],
)
def test_memory_is_what_the_control_group_leaves_of_the_machines(tmp_path, own, files, bound):
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text + "\n")
    whole = machine_memory(tmp_path, tmp_path / "none")
    found = machine_memory(tmp_path / "groups", tmp_path / "own")
    assert found == (whole if bound is None else bound)
    assert whole is None or whole > 10**8
