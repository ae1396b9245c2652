"""How long a checkpoint stops the training: the copy alone, against hashing and writing in line.

The rest is done beside the updates that follow (`cpm_repro/training/checkpoint_writer.py`).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from cpm_repro.bench import Case, Goal, Question, main
from cpm_repro.config import preset
from cpm_repro.model import build
from cpm_repro.training import Checkpoint, load_checkpoint, save_checkpoint
from cpm_repro.training.checkpoint_writer import on_host
from cpm_repro.training.recipe import build_optimizers

_FOLDER = tempfile.TemporaryDirectory()


def _state(name: str, device: str) -> Checkpoint:
    """A preset's weights, their average and the optimiser's state after one update."""
    config = replace(preset(name), data="synthetic")
    net = build(config.network.arch, parts=14).to(device)
    for weight in net.parameters():
        weight.grad = torch.randn_like(weight)
    optimizers = build_optimizers(net, config.solver)
    optimizers.step(1.0)
    average = {key: value.clone() for key, value in net.state_dict().items()}
    return Checkpoint(config, 1, 0.0, 0.0, average, optimizers.state_dict(), raw=net.state_dict())


def _weights(state: Checkpoint) -> list[torch.Tensor]:
    return list((state.raw or {}).values())


def _in_line(path: Path, state: Checkpoint, _: int) -> bool:
    finite = all(bool(torch.isfinite(weight).all()) for weight in _weights(state))
    save_checkpoint(path, state)
    return finite


def _copied(state: Checkpoint, _: int) -> bool:
    largest, _state = on_host((torch.nn.utils.get_total_norm(_weights(state), math.inf), state))
    return math.isfinite(largest)


def _difference(path: Path, state: Checkpoint) -> float:
    """Largest difference of the weights read back from those that the copy was made of."""
    save_checkpoint(path, on_host(state))
    saved = load_checkpoint(path)
    pairs = [(saved.model[name], value) for name, value in state.model.items()]
    return max(float((ours - theirs.cpu()).abs().max()) for ours, theirs in pairs)


def _size(state: Checkpoint) -> int:
    moments = [
        slot for member in state.optimizers for slots in member["state"].values() for slot in slots.values()
    ]
    tensors = [*state.model.values(), *(state.raw or {}).values(), *moments]
    return sum(value.nbytes for value in tensors if isinstance(value, torch.Tensor))


def ask(quick: bool, device: str) -> Question:
    """The state of ``tiny``; unless ``quick`` that of the six-stage network with AdamW and an average too."""

    def cases() -> Iterator[Case]:
        for name in ("tiny",) if quick else ("tiny", "lsp_6stage_modern"):
            state, path = _state(name, device), Path(_FOLDER.name) / "last.pt"
            yield Case(
                f"{name}, {_size(state) / 1e6:.0f} MB",
                {
                    "copied, written beside": partial(_copied, state),
                    "in line": partial(_in_line, path, state),
                },
                check=partial(_difference, path, state),
                tolerance=0.0,
                bytes=2 * _size(state),
                goals=(Goal("in line", 3.0),),
            )

    return Question(
        "A checkpoint's stop",
        "How long does a checkpoint stop the updates?",
        cases(),
        ("Both look for weights that are not finite. In line: SHA-256, the archive, the file, its sync.",),
    )


if __name__ == "__main__":
    main(ask, __file__)
