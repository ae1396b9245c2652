"""Too little memory is one line, whoever finds out."""

import cv2
import numpy as np
import pytest
import torch

from cpm_repro.errors import UserError
from cpm_repro.memory import fitting


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
