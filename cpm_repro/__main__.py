"""``python -m cpm_repro`` is the ``cpm`` command."""

import sys

from cpm_repro.cli import main

if __name__ == "__main__":
    sys.exit(main())
