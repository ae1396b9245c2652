"""The ``cpm`` command; ``python -m cpm_repro`` is the same."""

import sys


def run() -> int:
    """The command's exit code; an interrupt while it is imported ends it as a later one does."""
    if sys.stdout is not None and sys.stdout.errors == "strict":
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
