"""The networks: what they are as data, as readable modules, and what follows from it (sizes, cost, receptive fields)."""

from cpm_repro.model.description import (
    ARCHITECTURES,
    Filler,
    Layer,
    NetDescription,
    describe,
    describe_training,
)

__all__ = ["ARCHITECTURES", "Filler", "Layer", "NetDescription", "describe", "describe_training"]
