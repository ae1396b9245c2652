"""Pictures: poses on images, belief maps of every stage and part, training and PCK curves, contact sheets.

Images are (H, W, 3) uint8 BGR throughout.
"""

from cpm_repro.viz.beliefs import belief_grid
from cpm_repro.viz.plots import curves, pck_figure
from cpm_repro.viz.pose import draw_pose, draw_poses, legend
from cpm_repro.viz.save import save_jpg, save_png
from cpm_repro.viz.score_report import failure_sheet, score_report
from cpm_repro.viz.sheets import contact_sheet

__all__ = [
    "belief_grid",
    "contact_sheet",
    "curves",
    "draw_pose",
    "draw_poses",
    "failure_sheet",
    "legend",
    "pck_figure",
    "save_jpg",
    "save_png",
    "score_report",
]
