"""Two small conveyor belts: reading ahead of the work and writing behind it, each with bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from queue import Empty, Full, Queue
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_END = object()
_POLL = 0.05
"""Seconds between looks at whether the other side has stopped."""


def read_ahead(items: Iterable[T], depth: int = 4) -> Generator[T, None, None]:
    """Iterate ``items`` in a thread of its own, at most ``depth`` of them waiting.

    What ``items`` raises is raised here, after what came before it. When the caller stops early, so does the
    thread, and a generator is closed.
    """
    waiting: Queue[tuple[Any, BaseException | None]] = Queue(depth)
    stopped = threading.Event()

    def pull() -> None:
        try:
            for item in items:
                if not _put(waiting, (item, None), stopped):
                    break
            _put(waiting, (_END, None), stopped)
        except BaseException as error:
            _put(waiting, (_END, error), stopped)
        finally:
            getattr(items, "close", lambda: None)()

    thread = threading.Thread(target=pull, name="read ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


class WriteBehind(Generic[T]):
    """Hands items to ``consume`` in a thread of its own, at most ``depth`` of them waiting.

    Used as a context manager; leaving it waits for the last item. What ``consume`` raises is raised at the
    next :meth:`put` or on leaving, and nothing is consumed after it.
    """

    def __init__(self, consume: Callable[[T], Any], depth: int = 4) -> None:
        self._consume = consume
        self._waiting: Queue[Any] = Queue(depth)
        self._broken = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="write behind", daemon=True)

    def put(self, item: T) -> None:
        """Queue ``item``; waits while the queue is full."""
        if not _put(self._waiting, item, self._broken):
            self._raise()

    def __enter__(self) -> WriteBehind[T]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _put(self._waiting, _END, self._broken)
        self._thread.join()
        if error is None:
            self._raise()

    def _work(self) -> None:
        try:
            while (item := self._waiting.get()) is not _END:
                self._consume(item)
        except BaseException as error:
            self._error = error
            self._broken.set()
            _drain(self._waiting)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


def _put(queue: Queue[Any], item: Any, stopped: threading.Event) -> bool:
    """Put ``item``; False if the other side stopped first."""
    while not stopped.is_set():
        try:
            queue.put(item, timeout=_POLL)
            return True
        except Full:
            continue
    return False


def _drain(queue: Queue[Any]) -> None:
    """Let go of what nobody will take."""
    try:
        while True:
            queue.get_nowait()
    except Empty:
        return
