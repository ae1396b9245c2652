"""A benchmark of nothing much, for the tests: adding numbers."""

import os
import sys
import time

import torch

from cpm_repro.bench import Case, Goal, Question, main


def ask(quick: bool, device: str) -> Question:
    """Sums of vectors; the environment can make it wrong, hang, or crash."""
    if os.environ.get("TOY") == "crash":
        sys.exit("the toy broke")

    def cases():
        for n in (1000, 10_000):
            if os.environ.get("TOY") == "hang" and n == 10_000:
                time.sleep(600)
            block = torch.ones(n)
            wrong = os.environ.get("TOY") == "wrong" and n == 10_000
            yield Case(
                f"n={n}",
                {
                    "sum": lambda _, block=block: block.sum(),
                    "loop": lambda _, block=block: [b.sum() for b in block.split(100)],
                },
                check=lambda block=block, n=n, wrong=wrong: abs(float(block.sum()) - n) + wrong,
                tolerance=1e-3,
                bytes=4 * n,
                operations=n,
                axis=("n", n),
                goals=(Goal("loop", 2.0), Goal("limit", 1e9)),
            )

    return Question("Sums", f"How fast are {'few ' if quick else ''}numbers added on {device}?", cases())


if __name__ == "__main__":
    main(ask, __file__)
    if os.environ.get("TOY") == "late":
        sys.exit("the toy broke at its end")
