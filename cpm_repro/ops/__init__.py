"""The project's own operators: fast kernels for CPU and CUDA behind one front, with a torch reference."""

from cpm_repro.ops.belief_maps import belief_maps, center_map

__all__ = ["belief_maps", "center_map"]
