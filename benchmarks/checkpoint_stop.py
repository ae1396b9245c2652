"""How long a checkpoint stops the training: the copy alone, against hashing and writing in line.

The rest is done beside the updates that follow (`cpm_repro/training/checkpoint_writer.py`).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from cpm_repro.bench import Case, Goal, Question, largest, main
from cpm_repro.config import TrainConfig, preset
from cpm_repro.model import PoseMachine, build
from cpm_repro.training import Checkpoint, load_checkpoint, save_checkpoint
from cpm_repro.training.checkpoint_writer import on_host
from cpm_repro.training.recipe import build_optimizers
from cpm_repro.training.sharding import cores_for, keep_freed_memory

_FOLDER = tempfile.TemporaryDirectory()


def _state(net: PoseMachine, config: TrainConfig) -> Checkpoint:
    """A preset's weights, their average and the optimiser's state after one update."""
    for weight in net.parameters():
        weight.grad = torch.randn_like(weight)
    optimizers = build_optimizers(net, config.solver)
    optimizers.step(1.0)
    average = {key: value.clone() for key, value in net.state_dict().items()}
    return Checkpoint(config, 1, 0.0, 0.0, average, optimizers.state_dict(), raw=net.state_dict())


def _weights(state: Checkpoint) -> list[torch.Tensor]:
    return list((state.raw or {}).values())


class Saving:
    """Both ways, with the threads that the loop has: one where every core has its share of a batch."""

    def __init__(self, name: str, device: str, path: Path) -> None:
        self.config, self.path = preset(name), path
        self.net = build(self.config.network.arch, parts=14).to(device)
        self.state = _state(self.net, self.config)
        self.device = torch.device(device)

    def in_line(self, _: int) -> bool:
        """Look at every weight, hash, and write."""
        with cores_for(self.net, self.device, self.config.solver.batch):
            finite = all(bool(torch.isfinite(weight).all()) for weight in _weights(self.state))
            save_checkpoint(self.path, self.state)
        return finite

    def copied(self, _: int) -> bool:
        """What is left to the loop when the rest is done beside it."""
        with cores_for(self.net, self.device, self.config.solver.batch):
            largest = torch.nn.utils.get_total_norm(_weights(self.state), math.inf)
            largest, _state = on_host((largest, self.state))
        return math.isfinite(largest)

    def difference(self) -> float:
        """Largest difference of the weights read back from those that the copy was made of."""
        save_checkpoint(self.path, on_host(self.state))
        saved = load_checkpoint(self.path)
        pairs = [(saved.model[name], value) for name, value in self.state.model.items()]
        return largest(float((ours - theirs.cpu()).abs().max()) for ours, theirs in pairs)


def _size(state: Checkpoint) -> int:
    moments = [
        slot for member in state.optimizers for slots in member["state"].values() for slot in slots.values()
    ]
    tensors = [*state.model.values(), *(state.raw or {}).values(), *moments]
    return sum(value.nbytes for value in tensors if isinstance(value, torch.Tensor))


def ask(quick: bool, device: str) -> Question:
    """The state of ``tiny``; unless ``quick`` that of the six-stage network with AdamW and an average too."""

    keep_freed_memory()  # as a run does

    def cases() -> Iterator[Case]:
        for name in ("tiny",) if quick else ("tiny", "lsp_6stage_modern"):
            saving = Saving(name, device, Path(_FOLDER.name) / "last.pt")
            size = _size(saving.state)
            yield Case(
                f"{name}, {size / 1e6:.0f} MB",
                {"copied, written beside": saving.copied, "in line": saving.in_line},
                check=saving.difference,
                tolerance=0.0,
                bytes=2 * size,
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
