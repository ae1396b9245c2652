"""A setting of the whole process that several want at once: put back when the last of them has done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType


class SharedSetting:
    """A context manager, entered as often as one likes, from any thread, and left in any order.

    Each putting back what he found would leave the setting for good where two overlap: the second found the
    first one's.

    Args:
        read, write: the setting.
        value: what it is from the first who enters until the last has left.
    """

    def __init__(self, read: Callable[[], int], write: Callable[[int], object], value: int) -> None:
        self._read, self._write, self._value = read, write, value
        self._lock = threading.Lock()
        self._users, self._before = 0, value

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._before = self._read()
            self._write(self._value)
            self._users += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._write(self._before)
