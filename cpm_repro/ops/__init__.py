"""The project's own operators: fast kernels for CPU and CUDA behind one front, with a torch reference."""

from cpm_repro.ops._backend import available_backends
from cpm_repro.ops.belief_map_loss import belief_map_loss
from cpm_repro.ops.belief_maps import belief_maps, center_map
from cpm_repro.ops.fuse_multiscale import fuse_multiscale, fuse_multiscale_peaks
from cpm_repro.ops.imresize import imresize

__all__ = [
    "available_backends",
    "belief_map_loss",
    "belief_maps",
    "center_map",
    "fuse_multiscale",
    "fuse_multiscale_peaks",
    "imresize",
]
