"""The ``cpm`` command; ``python -m cpm_repro`` is the same."""

import os
import sys


def run() -> int:
    """The command's exit code; an interrupt while it is imported ends it as a later one does."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as under some services: nobody reads, the work goes on
            # Taking the free number, too: a result's file under it would get what libraries write to it.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    if sys.stdout.errors == "strict":
        # A file's name need not be text that a terminal or a Windows pipe can show; stderr escapes it, too.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        from cpm_repro.cli import main

        return main()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(run())
