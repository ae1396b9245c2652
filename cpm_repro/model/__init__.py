"""The networks: what they are as data, as readable modules, and what follows from that."""

from cpm_repro.model.build import build
from cpm_repro.model.description import (
    ARCHITECTURES,
    Filler,
    Layer,
    NetDescription,
    describe,
    describe_training,
)
from cpm_repro.model.initial import initialise
from cpm_repro.model.pose_machine import PoseMachine

__all__ = [
    "ARCHITECTURES",
    "Filler",
    "Layer",
    "NetDescription",
    "PoseMachine",
    "build",
    "describe",
    "describe_training",
    "initialise",
]
