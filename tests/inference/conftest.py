"""A network that knows nothing, in real files: what the tests of this room run."""

from dataclasses import replace

import pytest

from cpm_repro.config import override, preset
from cpm_repro.training import train


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A run of one update."""
    config = replace(preset("tiny"), name="nothing", minutes=None, iterations=1, validate_people=4, seed=3)
    config = override(config, {"network.width": 0.05, "solver.batch": 2, "augment.crop": 64})
    out = tmp_path_factory.mktemp("runs") / "nothing"
    train(config, out)
    return out
