"""How inference grows with the batch, with threads and with stages, beside eager PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from networks import Forward, apart, blobs, filled, last_stage, ours, tf32_notes, without_tf32
from torch import Tensor

from cpm_repro.bench import Case, Goal, Question, main
from cpm_repro.device import torch_threads
from cpm_repro.model import multiply_accumulates

TOLERANCE = 1e-4


def _call(forward: Forward, data: list[Tensor], threads: int, number: int) -> object:
    with torch_threads(threads):
        return forward(data[number % len(data)])


def _apart(ways: dict[str, Forward], data: list[Tensor]) -> float:
    want = ways["eager PyTorch"](data[0])
    return apart(ways["cpm_repro"](data[0]), want)


def ask(quick: bool, device: str) -> Question:
    """mpii_6stage at 368x368 (tiny at 128x128 when ``quick``)."""
    arch, side = ("tiny", 128) if quick else ("mpii_6stage", 368)
    net = filled(arch).to(device)
    fast = ours(net)
    cores = torch.get_num_threads()

    def case(axis: str, value: int, batch: int = 1, threads: int = cores, stages: int | None = None) -> Case:
        data = blobs((batch, 4, side, side), device)
        ways = {
            "cpm_repro": last_stage(fast, torch.channels_last, stages),
            "eager PyTorch": last_stage(net, torch.contiguous_format, stages),
        }
        return Case(
            f"{axis} {value}",
            {name: partial(_call, forward, data, threads) for name, forward in ways.items()},
            check=without_tf32(partial(_apart, ways, data), device),
            tolerance=TOLERANCE,
            operations=2.0 * batch * multiply_accumulates(net.description, side, side, stages),
            axis=(axis, value),
            goals=(Goal("eager PyTorch", 1.3),) if device == "cpu" and not quick else (),
        )

    def cases() -> Iterator[Case]:
        for batch in (1, 2, 4) if device == "cpu" else (1, 4, 16, 64):
            yield case("batch", batch, batch=batch)
        for stages in range(1, net.stages + 1, 2):
            yield case("stages", stages, stages=stages)
        if device == "cpu":
            for threads in range(1, cores + 1):
                yield case("threads", threads, threads=threads)

    about = "What do more images, stages and threads cost?"
    return Question("Inference, growing", about, cases(), tf32_notes(device))


if __name__ == "__main__":
    main(ask, __file__)
