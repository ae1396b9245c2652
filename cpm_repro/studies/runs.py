"""Training what studies ask for: shared between them, resumable, in parallel processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import torch

from cpm_repro.config import TrainConfig, from_dict, to_dict
from cpm_repro.device import usable_device
from cpm_repro.errors import EnvironmentFailure, UserError
from cpm_repro.evaluation import pck_curve
from cpm_repro.files import parse_json, write_json
from cpm_repro.studies.plan import Run, RunRecord
from cpm_repro.studies.progress import StudyBar
from cpm_repro.training import RunResult, train
from cpm_repro.training.run_folder import RunFolder

RESULT = "result.json"
"""A run folder that has it is finished."""


def default_jobs(device: str | None = None) -> int:
    """Processes that suit this machine: one per GPU of ``device``, else one per thread of torch's."""
    gpus = _devices(device)
    return len(gpus) if gpus != [""] else torch.get_num_threads()


def train_all(runs: Sequence[Run], folder: Path, jobs: int, device: str | None = None) -> None:
    """Train every run below ``folder`` that is not finished, ``jobs`` at a time; one bar for all of them.

    ``device`` is where; None and ``cuda`` take every GPU there is.

    A run that was interrupted goes on after its last checkpoint, a finished one is not touched.

    Raises:
        UserError: what a run refuses. EnvironmentFailure: a process died, or the disk does not take it.
    """
    waiting = [run for run in runs if not (folder / run.name / RESULT).exists()]
    bar = StudyBar(runs, folder, done=len(runs) - len(waiting))
    if not waiting:
        return
    jobs = min(jobs, len(waiting))
    context = get_context("spawn")  # a forked CUDA or OpenMP does not work
    devices = context.SimpleQueue()
    named = _devices(device)
    for job in range(jobs):
        devices.put(named[job % len(named)])
    threads = max(1, torch.get_num_threads() // jobs)
    pool = ProcessPoolExecutor(jobs, context, initializer=_start_worker, initargs=(devices, threads))
    try:
        pending = {pool.submit(train_one, to_dict(run.config), str(folder / run.name)) for run in waiting}
        while pending:
            finished, pending = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
            _raise_failures(finished)
            bar.show(finished=len(runs) - len(pending))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in active_children():
            process.terminate()  # the trainer saves its state and ends
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        bar.close()


def _raise_failures(finished: set[Future[None]]) -> None:
    for future in finished:
        try:
            future.result()
        except BrokenProcessPool as error:
            raise EnvironmentFailure(
                "a training process was killed (memory?); the same command goes on where it was"
            ) from error


def _devices(device: str | None) -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name, one entry a GPU of ``device``; a single empty one without."""
    place = usable_device(device)
    if place.type != "cuda":
        return [""]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]
    return names if place.index is None else [names[place.index]]


def _start_worker(devices: Any, threads: int) -> None:
    """Give this process one GPU, where there are any, and its share of the cores."""
    os.environ["CUDA_VISIBLE_DEVICES"] = devices.get()
    torch.set_num_threads(threads)


def train_one(values: dict[str, Any], folder: str) -> None:
    """Train one configuration to its end; what it prints goes to ``log.txt`` of its folder."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    log = (place / "log.txt").open("a", encoding="utf-8", buffering=1)
    with log, redirect_stdout(log), redirect_stderr(log):
        config = from_dict(values)
        result = train(config, place, resume=True)
        if result.stopped:
            raise EnvironmentFailure(f"stopped on the way; the same command goes on with {place.name}")
        write_result(result, config)


def write_result(result: RunResult, config: TrainConfig) -> None:
    """``result.json``: scores of every stage, their curves and the configuration."""
    curves = [pck_curve(table) for table in result.tables]
    write_json(
        result.folder / RESULT,
        {
            "config": to_dict(config),
            "iterations": result.iterations,
            "seconds": result.seconds,
            "protocol": result.tables[-1].protocol,
            "thresholds": curves[0].thresholds.tolist(),
            "curves": [curve.total.tolist() for curve in curves],
            "pck": [table.total for table in result.tables],
            "rows": [table.to_dict()["rows"] for table in result.tables],
        },
    )


def read_run(run: Run, folder: Path) -> RunRecord:
    """The record of a finished run below ``folder``.

    Raises:
        UserError: a result that cannot be read.
    """
    path = folder / run.name / RESULT
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        return RunRecord(
            config=from_dict(content["config"]),
            folder=path.parent,
            thresholds=tuple(content["thresholds"]),
            curves=tuple(tuple(curve) for curve in content["curves"]),
            pck=tuple(content["pck"]),
            rows=tuple(content["rows"]),
            iterations=content["iterations"],
            seconds=content["seconds"],
            commit=RunFolder(path.parent).environment()["commit"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not the result of a run ({error}); delete it to train anew") from error
