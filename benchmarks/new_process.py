"""Work in a new process, whose first use of everything and whose memory are its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

_BEGIN = """
import json, sys, time

def kilobytes(field):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field))
"""


def said(code: str, *words: str) -> Any:
    """What ``code`` prints, parsed as JSON; it has ``words`` as arguments, json, sys, time and ``kilobytes``.

    ``kilobytes("VmRSS")`` is the memory that the process holds, ``kilobytes("VmHWM")`` the most it has held.
    """
    command = [sys.executable, "-c", _BEGIN + code, *words]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
