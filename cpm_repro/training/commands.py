"""What the command line asks of this room: train from options, score weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.config import TrainConfig, explained, requested, solver_options
from cpm_repro.data import check_scales, open_dataset
from cpm_repro.device import float32_products, usable_device
from cpm_repro.errors import UserError
from cpm_repro.evaluation import ScoreTable
from cpm_repro.evaluation.part_names import skeleton_arrays
from cpm_repro.files import atomic_write, write_json
from cpm_repro.inference.weights import load_model, own_data, refuse_other_parts
from cpm_repro.memory import fitting
from cpm_repro.training.explain import compared, explain
from cpm_repro.training.loop import RunResult, train
from cpm_repro.training.person import PersonCentres
from cpm_repro.training.ranks import Ranks, joined
from cpm_repro.training.report import Finished, report, scores_markdown
from cpm_repro.training.run_folder import RunFolder
from cpm_repro.training.sharding import cores_for
from cpm_repro.training.solver_run import train_solver
from cpm_repro.training.start import check_held_out
from cpm_repro.training.validate import predict_dataset, score_stages


def train_from_options(options: Mapping[str, Any]) -> None:
    """``cpm train``: explain a preset, train from a solver prototxt, or train from a preset."""
    if options["explain"] is not None:
        print(explain(explained(options)))
    elif options["solver"] is not None:
        _solver_from_options(options)
    else:
        run_from_options(options)


def _solver_from_options(options: Mapping[str, Any]) -> None:
    given = solver_options(options)
    with joined() as ranks:
        if ranks.count > 1:
            ranks.fail(
                UserError(
                    f"--solver trains in one process, got {ranks.count} ranks: start it without torchrun, or "
                    f"give a --preset, which ranks share"
                )
            )
        result = train_solver(options["solver"], **given)
    if result.finished is not None:
        report(result.finished)


def run_from_options(options: Mapping[str, Any]) -> RunResult:
    """Train as ``cpm train`` was asked to: preset, then single options, then ``--set``; print the table."""
    with joined(options["device"]) as ranks:
        config, out = ranks.together(lambda: requested(options))
        opening = compared(config)
        if options["resume"] and not (out / "config.json").exists() and not RunFolder(out).last.exists():
            opening = [f"{out}: nothing to resume there, starting a new run", *opening]
        result = train(
            config, out, resume=options["resume"], opening="\n".join(opening), device=options["device"]
        )
        return _reported(result, config, ranks)


def run_from_config(config: TrainConfig, out: Path, *, resume: bool = False) -> RunResult:
    """Train, then write and print the run's report; a run that was stopped has none yet."""
    with joined() as ranks:
        return _reported(train(config, out, resume=resume), config, ranks)


def _reported(result: RunResult, config: TrainConfig, ranks: Ranks) -> RunResult:
    if ranks.first and not result.stopped:
        report(Finished.of(result, config))
    return result


def evaluate_weights(
    weights: Path,
    data: str | None,
    out: Path | None,
    arch: str | None = None,
    device: str | None = None,
) -> list[ScoreTable]:
    """Score ``weights`` on the held-out people of ``data``; print the table, and save it when asked to.

    A person network is scored, as while it trains, by where its highest belief lies in each person's crop.
    It runs on ``device``; None takes a GPU when there is one.
    """
    place = usable_device(device)
    model = load_model(weights, arch)
    data = data or own_data(model, weights)
    dataset = open_dataset(data, "val")
    if model.net.input_channels == 3:
        dataset = PersonCentres(dataset)
    check_held_out(data, dataset)
    refuse_other_parts(model, weights, data, dataset.skeleton)
    check_scales(data, model.augment, dataset)
    net = model.net.to(place)
    crop = model.augment.crop
    memory = fitting(f"a batch of 16 crops of {crop}x{crop} px", "give another --device")
    with memory, cores_for(net, place, batch=16) as cores, float32_products(place, tf32=False):
        predictions = predict_dataset(net, dataset, model.augment, cores)
    tables = score_stages(predictions, dataset)
    text = scores_markdown(tables)
    print(text)
    for remark in tables[-1].warnings:
        print(f"warning: {remark}")
    if out is not None:
        with atomic_write(out / "scores.md", "w") as file:
            file.write(text + "\n")
        write_json(out / "scores.json", [table.to_dict() for table in tables])
        with atomic_write(out / "predictions.npz") as file:
            np.savez_compressed(
                file,
                pred=predictions.keypoints[-1],
                scores=predictions.scores[-1],
                gt=predictions.truth,
                labelled=predictions.labelled,
                image=predictions.names,
                **skeleton_arrays(dataset.skeleton, predictions.extent),  # type: ignore[arg-type]
            )
        print(f"written to {out}")
    return tables
