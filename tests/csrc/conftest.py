"""What more than one file runs of csrc, compiled once: the CUDA sources for the CPU, and csrc/math."""

import pytest
import stand_in
from compiled import compile_library
from math_functions import API


@pytest.fixture(scope="session")
def objects(tmp_path_factory):
    """The folder of the objects."""
    return tmp_path_factory.mktemp("stand_in")


@pytest.fixture(scope="session")
def library(objects):
    """The stand-in's library."""
    return stand_in.build(objects)


@pytest.fixture(scope="session")
def math_library(tmp_path_factory):
    """The functions of csrc/math one by one."""
    return compile_library(tmp_path_factory.mktemp("math"), f'#include "{API}"\n', "-ffp-contract=off")
