"""A network that knows nothing, in real files: what the tests of this room run."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.io
from random_networks import random_tiny
from release_data import noise
from safetensors.torch import save_file

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


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A random narrow network of 14 parts."""
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file(random_tiny(1).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def lsp(tmp_path_factory):
    """LSP's layout with four test people."""
    folder = tmp_path_factory.mktemp("lsp")
    joints = np.random.default_rng(0).uniform(5, 60, (3, 14, 1004))
    joints[2] = 0
    scipy.io.savemat(folder / "joints.mat", {"joints": joints})
    images = [
        noise(folder / "images" / f"im{1001 + index}.jpg", 70 + 9 * index, 64, index) for index in range(4)
    ]
    return folder, images
