"""Too little memory, for whichever library: the user's mistake, said in one line; and how much there is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cpm_repro.errors import UserError

_TRIED = re.compile(r"(?:tried|unable|failed) to allocate ([\d.]+ \w+)", re.IGNORECASE)
"""What torch, numpy and OpenCV say of an array that has no room; torch on a processor and on a GPU."""

_WORDS = (
    "DefaultCPUAllocator: ",
    "(-4:Insufficient memory)",
    "Failed to allocate memory for requested buffer",
)
"""How torch, OpenCV and onnxruntime begin where the type of the error tells nothing."""


@contextmanager
def fitting(what: str, advice: str) -> Iterator[None]:
    """Inside, an array for which there is no memory is the user's mistake, all else is as it was.

    Args:
        what: is worked on, such as "a batch of 32 crops".
        advice: what to lower.

    Raises:
        UserError: there is no memory for it, on a processor or a GPU.
    """
    try:
        yield
    except Exception as error:
        if not is_of_memory(error):
            raise
        tried = _TRIED.search(str(error))
        said = f" (tried to allocate {tried[1]})" if tried else ""
        raise UserError(f"{what} does not fit into memory{said}: {advice}") from error


def is_of_memory(error: Exception) -> bool:
    """Whether an error says that there is no memory: of numpy's, Python's and a GPU's there is a type.

    torch is not imported to ask for it.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(words in str(error) for words in _WORDS)


def machine_memory(
    groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> int | None:
    """Bytes of memory that this process may use; None: unknown.

    Those of the machine, or fewer where a container or a batch system bounds its control group or one above.

    Args:
        groups: where the system shows control groups, of either version.
        own: says which ones this process is in.
    """
    bounds = []
    with suppress(ValueError, OSError, AttributeError):  # not on Windows
        bounds.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError):
        for line in own.read_text(encoding="utf-8").splitlines():
            _, kinds, group = line.split(":", 2)
            if not kinds:
                top, name = groups, "memory.max"
            elif "memory" in kinds.split(","):
                top, name = groups / "memory", "memory.limit_in_bytes"
            else:
                continue
            group_path = top / group.strip("/")
            for place in (group_path, *group_path.parents):
                with suppress(OSError, ValueError):  # not there, as outside of a container; "max" is no bound
                    bounds.append(int((place / name).read_text(encoding="utf-8")))
                if place == top:
                    break
    return min(bounds, default=None)
