"""The networks: what they are as data, as readable modules, and what follows from that."""

from cpm_repro.model.build import build
from cpm_repro.model.cost import (
    multiply_accumulates,
    output_sizes,
    parameter_count,
    receptive_field,
    training_operations,
)
from cpm_repro.model.description import (
    Filler,
    Layer,
    NetDescription,
    describe,
    describe_training,
)
from cpm_repro.model.initial import initialise
from cpm_repro.model.load import LoadReport, load_by_name
from cpm_repro.model.measure import measured_receptive_field
from cpm_repro.model.pose_machine import PoseMachine
from cpm_repro.model.vgg_init import initialise_from_vgg19

__all__ = [
    "Filler",
    "Layer",
    "LoadReport",
    "NetDescription",
    "PoseMachine",
    "build",
    "describe",
    "describe_training",
    "initialise",
    "initialise_from_vgg19",
    "load_by_name",
    "measured_receptive_field",
    "multiply_accumulates",
    "output_sizes",
    "parameter_count",
    "receptive_field",
    "training_operations",
]
