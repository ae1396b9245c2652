"""Photographs decoded once and kept while memory allows."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from pathlib import Path

import numpy as np

from cpm_repro.image_file import read_image

DEFAULT_CACHE_BYTES = 2 << 30


class ImageCache:
    """Decoded images up to a number of bytes; what does not fit is decoded anew each time.

    Nothing is evicted: training visits images in random order, once per epoch, so that keeping the first ones
    saves as many decodes as any replacement rule would and costs no bookkeeping.
    """

    def __init__(self, budget: int = DEFAULT_CACHE_BYTES) -> None:
        self._budget = budget
        self._used = 0
        self._images: dict[Hashable, np.ndarray] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> int:
        """A copy, as for a worker process, begins without images."""
        return self._budget

    def __setstate__(self, budget: int) -> None:
        ImageCache.__init__(self, budget)

    def read(self, path: Path) -> np.ndarray:
        """The image at ``path`` (see `read_image`), read-only and shared between callers."""
        image = self._images.get(path)
        if image is None:
            image = read_image(path)
            image.flags.writeable = False
            with self._lock:
                if path not in self._images and self._used + image.nbytes <= self._budget:
                    self._images[path] = image
                    self._used += image.nbytes
        return image
