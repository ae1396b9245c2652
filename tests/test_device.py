"""Where networks run, and what is asked of the processor or GPU there."""

import contextlib
from pathlib import Path

import pytest
import torch
from tf32_settings import tf32_allowed, tf32_flags

from cpm_repro.device import (
    float32_products,
    has_bf16,
    measured_convolutions,
    torch_threads,
    usable_device,
)
from cpm_repro.errors import UserError

CPU = torch.device("cpu")


def test_a_device_by_name():
    assert usable_device("cpu") == CPU
    with pytest.raises(UserError, match="device cpu2x: wanted cpu or a GPU such as cuda:0"):
        usable_device("cpu2x")


def test_bf16_is_what_linux_says_of_this_processor():
    words = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    if "flags" not in words:
        pytest.skip("no flags are listed here")
    assert has_bf16(CPU) == bool({"avx512_bf16", "amx_tile"} & set(words))


@pytest.mark.parametrize("avx512", [False, True])
@pytest.mark.parametrize("amx", [False, True])
def test_one_of_two_kinds_of_instructions_is_enough(monkeypatch, avx512, amx):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert has_bf16(CPU) is (avx512 or amx)


def test_a_gpu_is_asked_about_itself_and_emulation_does_not_count(monkeypatch):
    """The second GPU of two has it; PyTorch's own question is about the current one."""
    current = [0]

    @contextlib.contextmanager
    def chosen(device):
        current.append(device.index)
        yield
        current.pop()

    def supported(*, including_emulation):
        return including_emulation or current[-1] == 1

    monkeypatch.setattr(torch.cuda, "device", chosen)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert [has_bf16(torch.device("cuda", number)) for number in (0, 1)] == [False, True]


@pytest.mark.parametrize("before", [False, True])
def test_cudnn_measures_for_as_long_as_it_is_asked_to(monkeypatch, before):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", before)
    with measured_convolutions(CPU):
        assert torch.backends.cudnn.benchmark is before

    def fails():
        with measured_convolutions(torch.device("cuda", 0)):
            assert torch.backends.cudnn.benchmark
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert torch.backends.cudnn.benchmark is before


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_on_or_off_for_as_long_as_it_is_asked_to(before, tf32):
    """In convolutions and in matrix products; the two settings are told apart afterwards."""

    def fails():
        with float32_products(torch.device("cuda", 0), tf32=tf32):
            assert tf32_flags() == (tf32, tf32)
            raise KeyError

    with tf32_allowed(before, not before):
        with float32_products(CPU, tf32=tf32):
            assert tf32_flags() == (before, not before)
        with pytest.raises(KeyError):
            fails()
        assert tf32_flags() == (before, not before)


def test_threads_are_put_back_whatever_happens():
    before = torch.get_num_threads()
    seen = []

    def fails():
        seen.append(torch.get_num_threads())
        raise ValueError

    with pytest.raises(ValueError), torch_threads(before + 1):  # noqa: PT011
        fails()
    assert seen == [before + 1]
    assert torch.get_num_threads() == before
