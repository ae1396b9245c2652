"""Belief and centre maps of the batches between those of belief_maps.py: do the goals hold there, too?"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from belief_maps import belief_maps_case, straightforward

from cpm_repro.bench import Case, Question, main


def ask(quick: bool, device: str) -> Question:
    """The same question as belief_maps.py, at other N."""

    def cases() -> Iterator[Case]:
        library = straightforward() if device == "cpu" else None
        for n in (3,) if quick else (2, 3, 4, 6, 8, 12, 32, 64, 128):
            torch.compiler.reset()
            yield belief_maps_case(n, device, library)

    about = "How fast are belief maps with the centre map made for the batches between 1, 16 and 256?"
    return Question("Belief maps, batches", about, cases())


if __name__ == "__main__":
    main(ask, __file__)
