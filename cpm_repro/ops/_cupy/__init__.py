"""The operators through CuPy: the kernels of the extension, compiled at run time, for people without nvcc.

Each module makes the entry points of one header of csrc/cuda and launches them as the ``.cu`` file beside it
does; its functions have the names and arguments of ``torch.ops.cpm_repro``. CuPy is imported when a kernel is
needed.
torch.compile does not look into them: it breaks its graph there.
"""

from cpm_repro.ops._cupy.belief import belief_maps_out, center_map_out
from cpm_repro.ops._cupy.fusion import fuse_multiscale_out, fuse_multiscale_peaks, fusion_tiles
from cpm_repro.ops._cupy.loss import belief_map_loss
from cpm_repro.ops._cupy.resize import imresize

__all__ = [
    "belief_map_loss",
    "belief_maps_out",
    "center_map_out",
    "fuse_multiscale_out",
    "fuse_multiscale_peaks",
    "fusion_tiles",
    "imresize",
]
