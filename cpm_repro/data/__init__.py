"""Pose data: reading it, drawing it, augmenting it and feeding it to training."""

from cpm_repro.data.augment import AugmentConfig, Crop, Draw, crop_matrix, draw, invert_matrix, warp
from cpm_repro.data.loader import Batch, TrainLoader, ValBatch, collate, val_batches
from cpm_repro.data.lsp import LspetDataset, read_lspet_joints
from cpm_repro.data.open import open_dataset
from cpm_repro.data.sample import PoseDataset, PoseSample, center_and_extent
from cpm_repro.data.synthetic import SyntheticConfig, SyntheticDataset

__all__ = [
    "AugmentConfig",
    "Batch",
    "Crop",
    "Draw",
    "LspetDataset",
    "PoseDataset",
    "PoseSample",
    "SyntheticConfig",
    "SyntheticDataset",
    "TrainLoader",
    "ValBatch",
    "center_and_extent",
    "collate",
    "crop_matrix",
    "draw",
    "invert_matrix",
    "open_dataset",
    "read_lspet_joints",
    "val_batches",
    "warp",
]
