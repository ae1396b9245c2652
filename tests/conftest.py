"""Makes tests/ importable as a folder of helpers (``from support import golden``)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
