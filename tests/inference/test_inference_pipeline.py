"""Reading ahead and writing behind: order, bounds, errors from the other thread, stopping early."""

import threading
import time

import pytest

from cpm_repro.inference.pipeline import WriteBehind, read_ahead


def our_threads():
    return [thread for thread in threading.enumerate() if thread.name in ("read ahead", "write behind")]


def test_read_ahead_keeps_the_order_and_stays_within_its_depth():
    pulled = 0

    def items():
        nonlocal pulled
        for pulled in range(1, 51):  # noqa: UP028  `pulled` is looked at from outside
            yield pulled

    got = []
    for item in read_ahead(items(), depth=3):
        got.append(item)
        time.sleep(0.001)
        assert pulled <= len(got) + 3 + 1  # waiting, and one in the thread's hand
    assert got == list(range(1, 51))
    assert not our_threads()


def test_read_ahead_raises_what_was_raised_after_what_came_before():
    def items():
        yield from (1, 2)
        raise ValueError("broken")

    got = []
    with pytest.raises(ValueError, match="broken"):  # noqa: PT012
        for item in read_ahead(items()):
            got.append(item)
    assert got == [1, 2]


def test_read_ahead_stops_when_nobody_wants_more():
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    ahead = read_ahead(items(), depth=2)
    next(ahead)
    ahead.close()
    assert closed.wait(5)
    assert not our_threads()


def test_write_behind_writes_all_in_order_before_it_is_left():
    written = []
    with WriteBehind(lambda item: (time.sleep(0.001), written.append(item)), depth=2) as writer:
        for item in range(30):
            writer.put(item)
            assert item - len(written) <= 2 + 2
    assert written == list(range(30))
    assert not our_threads()


def test_write_behind_raises_what_the_writing_raised():
    def fail(item):
        if item == 3:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), WriteBehind(fail, depth=1) as writer:  # noqa: PT012
        for item in range(1000):
            writer.put(item)
            last = item
    assert last < 10
    with pytest.raises(OSError, match="disk full"), WriteBehind(fail) as writer:
        writer.put(3)  # nothing is put after it: leaving raises
    assert not our_threads()


def test_write_behind_finishes_what_it_was_given_when_the_caller_fails():
    written = []
    with pytest.raises(KeyboardInterrupt), WriteBehind(written.append) as writer:  # noqa: PT012
        writer.put(1)
        writer.put(2)
        raise KeyboardInterrupt
    assert written == [1, 2]
