"""What every script in `benchmarks/` does: check each case, time it, print a table, leave JSON."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cpm_repro.bench.case import BenchmarkWrong, Case, Question
from cpm_repro.bench.limits import Limits, measure_limits
from cpm_repro.bench.record import Answer, Measured, save_answer
from cpm_repro.bench.text import answer_markdown
from cpm_repro.files import atomic_write

_LEAST = {"cpu": 6.0, "cuda": 1.0}
"""Seconds that a case is measured for at least: a processor's memory is shared, a GPU's is not."""

Ask = Callable[[bool, str], Question]
"""(quick, device) -> the question."""


def main(ask: Ask, script: str) -> None:
    """Run one script's question as its options say; see ``--help``.

    Args:
        ask: makes the question for "cpu" or "cuda", in small sizes when ``quick``.
        script: the script's ``__file__``.

    Raises:
        BenchmarkWrong: a checked result is wrong; nothing is timed after it and nothing is written.
    """
    parser = argparse.ArgumentParser(description=f"benchmark: {Path(script).stem}")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds: does it run?")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda where there is one")
    parser.add_argument("--out", type=Path, help="also write the table to this Markdown file")
    parser.add_argument("--json", type=Path, help="also write everything measured to this file")
    options = parser.parse_args()
    import torch  # the room's other door, `cpm bench`, refuses wrong names without it

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    # Beside the report until it is whole: who ends a script that takes too long keeps the cases that it had.
    part = None if options.out is None else options.out.with_suffix(f".part{options.out.suffix}")

    def after_case(so_far: Answer) -> None:
        if part is not None:
            with atomic_write(part, "w") as file:
                file.write(answer_markdown(so_far))

    question = ask(options.quick, device)
    try:
        answer = answer_question(
            question, Path(script).stem, device, quick=options.quick, after_case=after_case
        )
    except BenchmarkWrong:
        if part is not None:
            part.unlink(missing_ok=True)
        raise
    text = answer_markdown(answer)
    print(text)
    if options.json is not None:
        save_answer(answer, options.json)
    if options.out is not None and part is not None:
        with atomic_write(options.out, "w") as file:
            file.write(text)
        part.unlink(missing_ok=True)


def answer_question(
    question: Question,
    script: str,
    device: str,
    *,
    quick: bool,
    after_case: Callable[[Answer], None] = lambda _: None,
) -> Answer:
    """Check and time every case of a question; ``after_case`` gets the answer so far, which says so.

    Raises:
        BenchmarkWrong: a result differs from the reference by more than its case allows.
    """
    limits: Limits | None = None
    cases = []
    for case in question.cases:
        error = case.checked()
        low = case.precision == "bfloat16"
        if limits is None:
            limits = measure_limits(device, quick=quick, bfloat16=low)
        elif low and limits.bfloat16 is None:
            # The other rates stay those that earlier cases were held against.
            limits = replace(limits, bfloat16=measure_limits(device, quick=quick, bfloat16=True).bfloat16)
        cases.append(_measure(case, error, limits, device, quick))
        del case
        gc.collect()
        notes = ["The script was ended before its other cases were measured.", *question.notes]
        after_case(Answer(script, question.title, question.about, list(cases), limits, notes))
    return Answer(script, question.title, question.about, cases, limits, list(question.notes))


def _measure(case: Case, error: float, limits: Limits, device: str, quick: bool) -> Measured:
    from cpm_repro.bench.clock import sizes_in_turn, time_in_turn

    rounds, budget, least = (3, 4.0, 0.0) if quick else (21, case.budget, _LEAST[device])
    if case.unit == "bytes":
        samples = sizes_in_turn(case.works, 3)
    else:
        samples = time_in_turn(case.works, rounds, budget, device, case.graphs, least)
    floor = limits.seconds(case.bytes, case.operations, case.precision)
    return Measured(
        name=case.name,
        error=error,
        tolerance=case.tolerance,
        samples=samples,
        bytes=case.bytes,
        operations=case.operations,
        axis=case.axis,
        limit=case.limit,
        limit_seconds=floor if floor > 0 and case.limit is None else None,
        allowed=case.allowed,
        goals=[(goal.against, goal.times) for goal in case.goals],
        unit=case.unit,
    )
