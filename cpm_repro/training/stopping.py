"""Stopping a long run when the system or the user asks for it, at a moment that suits it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

Item = TypeVar("Item")


class Stopped(Exception):
    """Work was left unfinished because a stop was asked for."""


@dataclass
class Stop:
    """``asked`` becomes True when SIGTERM or SIGINT arrives."""

    asked: bool = False


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Inside, SIGTERM and SIGINT only set a flag; a second SIGINT interrupts at once, as usual.

    In other threads than the main one, which alone may handle signals, nothing is caught.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        stop.asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def going_on(items: Iterable[Item], stop: Stop | None) -> Iterator[Item]:
    """``items``, but :class:`Stopped` is raised in place of the next one once ``stop`` is asked for."""
    for item in items:
        if stop is not None and stop.asked:
            raise Stopped
        yield item
