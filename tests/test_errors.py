"""What is taken of other libraries' errors."""

import pytest
import torch

from cpm_repro import device
from cpm_repro.errors import BackendError, EnvironmentFailure, UserError, first_line, told_in_one_line
from cpm_repro.ops import _backend, _library


def test_the_first_line_or_the_kind_of_an_error():
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError("\n  one\ntwo")) == "one"
    assert first_line(ValueError("x" * 500)) == "x" * 200
    for silent in (ValueError(), ValueError(" \n")):
        assert first_line(silent) == "ValueError"


@pytest.mark.parametrize(("kind", "code"), [(UserError, 2), (EnvironmentFailure, 1), (BackendError, 2)])
def test_a_script_ends_in_one_line(kind, code, capsys):
    with pytest.raises(SystemExit) as stop, told_in_one_line("script"):
        raise kind("no such thing")
    assert stop.value.code == code
    assert capsys.readouterr().err == "script: error: no such thing\n"


def test_an_error_that_says_nothing_is_still_one_line(monkeypatch):
    def silent(*_, **__):
        raise NotImplementedError

    monkeypatch.setattr(torch, "empty", silent)
    with pytest.raises(UserError, match="device cpu: cannot be used here: NotImplementedError"):
        device.usable_device("cpu")
    monkeypatch.setattr(_library, "LOAD_ERROR", ImportError())
    assert _backend._why_not("cpu", "imresize") == "the extension does not load: ImportError"
