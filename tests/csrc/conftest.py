"""The CUDA sources for the CPU, compiled once for all files that run them."""

import pytest
import stand_in


@pytest.fixture(scope="session")
def objects(tmp_path_factory):
    """The folder of the objects."""
    return tmp_path_factory.mktemp("stand_in")


@pytest.fixture(scope="session")
def library(objects):
    """The stand-in's library."""
    return stand_in.build(objects)
