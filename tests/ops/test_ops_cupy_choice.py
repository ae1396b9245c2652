"""Which CuPy counts as one that can be used: one that imports."""

import importlib
import sys
import warnings

import pytest
import torch

from cpm_repro.ops import _backend, _library, available_backends

CUDA = torch.device("cuda")
BROKEN = """
try:
    raise OSError("libnvrtc.so.11.2: cannot open\\nshared object file")
except OSError as error:
    raise ImportError("\\n=====\\nFailed to import CuPy.\\n\\nOriginal error: ...\\n=====\\n") from error
"""


@pytest.fixture(autouse=True)
def no_kernels(monkeypatch):
    monkeypatch.setattr(_backend._library, "has_kernel", lambda *_: False)
    monkeypatch.delenv("CPM_BACKEND", raising=False)
    _backend._why_no_cupy.cache_clear()
    _backend._warn_once.cache_clear()
    yield
    sys.modules.pop("cupy", None)
    _backend._why_no_cupy.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Makes a package cupy of a text."""

    def make(text):
        (tmp_path / "cupy.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()

    return make


def test_a_cupy_that_does_not_import_is_passed_over_with_one_warning(package, monkeypatch):
    package(BROKEN)
    reason = "OSError: libnvrtc.so.11.2: cannot open shared object file"
    with pytest.warns(RuntimeWarning, match=f"cuda tensors: .*; CuPy does not import: {reason}") as caught:
        chosen = [_backend.choose(None, "imresize", CUDA) for _ in range(2)]
    assert chosen == ["reference", "reference"]
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    with pytest.raises(ValueError, match=f"^backend 'cupy' does not import: {reason}$"):
        _backend.choose("cupy", "imresize", CUDA)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert available_backends() == ("reference",)


def test_a_cupy_that_imports_is_taken_and_imported_once(package, monkeypatch):
    package("import sys\nsys.imports_of_cupy = getattr(sys, 'imports_of_cupy', 0) + 1")
    words = f"CuPy's kernels.* on cuda tensors: .*; build the extension's with `{_library.BUILD_COMMAND}`"
    with pytest.warns(RuntimeWarning, match=words) as caught:
        chosen = [_backend.choose(None, name, CUDA) for name in ("imresize", "belief_maps_out", "imresize")]
    assert chosen == ["cupy"] * 3
    assert len(caught) == 1  # whatever operators are called
    assert _backend.choose("cupy", "imresize", CUDA) == "cupy"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert available_backends() == ("cupy", "reference")
    assert sys.imports_of_cupy == 1
    del sys.imports_of_cupy


def test_cupy_that_is_asked_for_is_taken_in_silence(package, monkeypatch):
    package("")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _backend.choose("cupy", "imresize", CUDA) == "cupy"
        monkeypatch.setenv("CPM_BACKEND", "cupy")
        assert _backend.choose(None, "imresize", CUDA) == "cupy"


def test_it_is_not_imported_where_nobody_needs_it(package, monkeypatch):
    package("raise AssertionError('imported')")
    cpu = torch.device("cpu")
    with pytest.warns(RuntimeWarning, match="slow reference operators on cpu tensors"):
        _backend.choose(None, "imresize", cpu)
    with pytest.raises(ValueError, match="backend 'cupy' needs cuda tensors, got cpu tensors"):
        _backend.choose("cupy", "imresize", cpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert available_backends() == ("reference",)
    monkeypatch.setattr(_backend._library, "has_kernel", lambda *_: True)
    assert _backend.choose(None, "imresize", CUDA) == "cuda"
    assert _backend._why_no_cupy.cache_info().misses == 0


def test_one_that_is_not_installed_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not there
    with pytest.raises(ValueError, match=r"backend 'cupy' is not installed: install the extra \[cuda12\]"):
        _backend.choose("cupy", "imresize", CUDA)
