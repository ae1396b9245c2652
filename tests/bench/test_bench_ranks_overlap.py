"""benchmarks/ranks_overlap.py: rank 1 ends with rank 0, whatever happens to that."""

from types import SimpleNamespace

import pytest
from scripts import script


@pytest.fixture(name="script")
def ranks_overlap():
    with script("ranks_overlap") as module:
        yield module


class Process:
    """Stands in for rank 1's process and notes what is asked of it."""

    def __init__(self, **_):
        self.asked = []

    def __getattr__(self, name):
        return lambda: self.asked.append(name)


@pytest.fixture
def other(script, monkeypatch):
    """The process that rank 0 starts; rank 0 joins nobody."""
    process = Process()
    context = SimpleNamespace(Process=lambda **_: process)
    monkeypatch.setattr(script.multiprocessing, "get_context", lambda _: context)
    monkeypatch.setattr(script, "join", lambda *_: None)
    monkeypatch.setattr(script, "_tell", lambda *_: process.asked.append("told the end"))
    return process


def test_rank_1_is_told_the_end_and_waited_for(script, other):
    with script._other(True):
        assert other.asked == ["start"]
    assert other.asked[:3] == ["start", "told the end", "join"]


def test_rank_1_is_ended_and_reaped_when_rank_0_cannot_join(script, other, monkeypatch):
    def refused(*_):
        raise RuntimeError("address in use")

    monkeypatch.setattr(script, "join", refused)
    with pytest.raises(RuntimeError, match="address in use"), script._other(True):
        pass
    assert other.asked == ["start", "kill", "join"]


def test_rank_1_is_ended_and_reaped_when_a_result_is_wrong(script, other):
    with pytest.raises(AssertionError, match="differs"), script._other(True):
        raise AssertionError("the result differs")
    assert other.asked == ["start", "kill", "join"]
