"""Pose data: reading it, drawing it, augmenting it and feeding it to training."""

from cpm_repro.data.annotations import (
    AnnotatedImage,
    Annotations,
    PeopleDataset,
    Person,
    Problem,
    other_size,
    place_of,
    split_people,
)
from cpm_repro.data.augment import (
    AugmentConfig,
    Crop,
    Draw,
    PersonAugment,
    crop_matrix,
    draw,
    invert_matrix,
    warp,
)
from cpm_repro.data.check import CheckReport, check_data
from cpm_repro.data.coco import read_coco
from cpm_repro.data.csv_table import read_csv
from cpm_repro.data.device import warp_windows
from cpm_repro.data.exact import ExactConfig, ExactDraw, exact_crop, exact_draw, generator_dice, glibc_dice
from cpm_repro.data.flic import read_flic
from cpm_repro.data.image_sizes import ImageSizes, noted_sizes
from cpm_repro.data.lmdb_store import LmdbDataset
from cpm_repro.data.lmdb_write import write_lmdb
from cpm_repro.data.loader import Batch, TrainLoader, ValBatch, augment_of, collate, val_batches
from cpm_repro.data.lsp import LspetDataset, read_lsp, read_lspet_joints
from cpm_repro.data.lsp_scale import lsp_scales
from cpm_repro.data.mixed import MixedDataset
from cpm_repro.data.mpii import mark_validation, read_mpii_json, read_mpii_mat, read_val_pairs
from cpm_repro.data.open import data_name, is_mixed, open_dataset, read_annotations
from cpm_repro.data.readable import Readable, check_scales
from cpm_repro.data.record import PersonRecord
from cpm_repro.data.record_json import read_records, write_records
from cpm_repro.data.record_set import RecordSet, read_record_set
from cpm_repro.data.release import ReleaseAugment, fast_crop, replay
from cpm_repro.data.release_records import annotation_records, leeds_records
from cpm_repro.data.sample import PoseDataset, PoseSample, center_and_extent
from cpm_repro.data.show import show_samples
from cpm_repro.data.skeleton_file import read_skeleton
from cpm_repro.data.synthetic import SyntheticConfig, SyntheticDataset

__all__ = [
    "AnnotatedImage",
    "Annotations",
    "AugmentConfig",
    "Batch",
    "CheckReport",
    "Crop",
    "Draw",
    "ExactConfig",
    "ExactDraw",
    "ImageSizes",
    "LmdbDataset",
    "LspetDataset",
    "MixedDataset",
    "PeopleDataset",
    "Person",
    "PersonAugment",
    "PersonRecord",
    "PoseDataset",
    "PoseSample",
    "Problem",
    "Readable",
    "RecordSet",
    "ReleaseAugment",
    "SyntheticConfig",
    "SyntheticDataset",
    "TrainLoader",
    "ValBatch",
    "annotation_records",
    "augment_of",
    "center_and_extent",
    "check_data",
    "check_scales",
    "collate",
    "crop_matrix",
    "data_name",
    "draw",
    "exact_crop",
    "exact_draw",
    "fast_crop",
    "generator_dice",
    "glibc_dice",
    "invert_matrix",
    "is_mixed",
    "leeds_records",
    "lsp_scales",
    "mark_validation",
    "noted_sizes",
    "open_dataset",
    "other_size",
    "place_of",
    "read_annotations",
    "read_coco",
    "read_csv",
    "read_flic",
    "read_lsp",
    "read_lspet_joints",
    "read_mpii_json",
    "read_mpii_mat",
    "read_record_set",
    "read_records",
    "read_skeleton",
    "read_val_pairs",
    "replay",
    "show_samples",
    "split_people",
    "val_batches",
    "warp",
    "warp_windows",
    "write_lmdb",
    "write_records",
]
