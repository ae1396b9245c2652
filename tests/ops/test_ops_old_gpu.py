"""GPUs that are older than the kernels: the reference runs there, after one warning."""

import pytest
import torch

from cpm_repro.errors import BackendError
from cpm_repro.ops import _backend, available_backends

FIRST = torch.device("cuda", 0)


@pytest.fixture
def gpus(monkeypatch):
    """Makes this a machine with GPUs of such compute capabilities, and kernels for all devices."""
    asked = []

    def there(*capabilities):
        def capability(index):
            asked.append(index)
            if index is not None and index >= len(capabilities):
                raise RuntimeError("invalid device ordinal")
            return capabilities[index or 0]

        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", capability)
        return asked

    monkeypatch.setattr(_backend._library, "has_kernel", lambda *_: True)
    monkeypatch.setattr(_backend, "_why_no_cupy", lambda: None)
    monkeypatch.delenv("CPM_BACKEND", raising=False)
    caches = (_backend._too_low, _backend._warn_once)
    for cache in caches:
        cache.cache_clear()
    yield there
    for cache in caches:
        cache.cache_clear()


def test_an_old_gpu_gets_the_reference_after_one_warning(gpus):
    gpus((7, 0))
    reason = "its GPU is of compute capability 7.0, the kernels need 7.5"
    with pytest.warns(_backend.SlowOperatorsWarning, match=f"on cuda tensors: {reason}$") as caught:
        chosen = {_backend.choose(None, name, FIRST) for name in _backend._library.OPERATORS}
    assert chosen == {"reference"}
    assert len(caught) == 1
    for name in ("cuda", "cupy"):
        with pytest.raises(BackendError, match=f"^backend '{name}' does not run here: {reason}$"):
            _backend.choose(name, "imresize", FIRST)
    assert _backend.choose(None, "imresize", torch.device("cpu")) == "cpu"
    assert available_backends() == ("cpu", "reference")
    assert _backend.why_not_compiled() == reason


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (9, 0), (12, 1)])
def test_gpus_from_turing_on_get_the_kernels(gpus, capability):
    gpus(capability)
    assert _backend.choose(None, "imresize", FIRST) == _backend.choose("cuda", "imresize", FIRST) == "cuda"
    assert available_backends() == ("cpu", "cuda", "cupy", "reference")
    assert _backend.why_not_compiled() is None


def test_each_gpu_is_asked_once_for_its_own(gpus):
    asked = gpus((9, 0), (6, 1))
    with pytest.warns(_backend.SlowOperatorsWarning, match=r"capability 6\.1"):
        chosen = [_backend.choose(None, "imresize", torch.device("cuda", k)) for k in (0, 1, 0, 1)]
    assert chosen == ["cuda", "reference"] * 2
    assert asked == [0, 1]


def test_a_device_that_is_not_there_is_not_old(gpus):
    """A tensor without memory may name any."""
    gpus((9, 0))
    assert _backend.choose(None, "imresize", torch.device("cuda", 5)) == "cuda"


def test_under_torch_compile_nobody_is_asked(gpus, monkeypatch):
    asked = gpus((7, 0))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert _backend.choose(None, "imresize", FIRST) == "cuda"
    assert asked == []
