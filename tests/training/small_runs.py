"""Runs of seconds for the tests of the loop, and what they leave."""

from dataclasses import replace

from cpm_repro.config import override, preset
from cpm_repro.training.run_folder import RunFolder

SMALL = {
    "network.width": 0.05,
    "augment.crop": 64,
    "solver.batch": 4,
    "workers": 1,
    "validate_people": 20,
}


def small(iterations: int, **changes):
    config = replace(preset("tiny"), name="small", minutes=None, iterations=iterations, validate_every=1.0)
    return override(config, {**SMALL, **changes})


def losses(folder) -> list[list[float]]:
    return [record["loss"] for record in RunFolder(folder).records() if record["kind"] == "train"]
