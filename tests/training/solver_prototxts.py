"""Prototxts of small networks, and runs of them, for the tests of ``cpm train --solver``."""

import json

from cpm_repro.caffe.generate import train_text
from cpm_repro.model import describe_training
from cpm_repro.training.solver_run import train_solver

SOLVER = """
net: "train.prototxt" base_lr: 8e-05 lr_policy: "step" gamma: 0.333 stepsize: 2 momentum: 0.9
weight_decay: 0.0005 display: 1 max_iter: 5 snapshot: 2 snapshot_prefix: "snapshots/pose" random_seed: 3
"""

FLIC_AT_64 = {"crop_size_x: 368": "crop_size_x: 64", "crop_size_y: 368": "crop_size_y: 64",
              "num_parts: 9": "num_parts: 14", "np_in_lmdb: 9": "np_in_lmdb: 16",
              "num_output: 10": "num_output: 15", "slice_point: 10": "slice_point: 15"}  # fmt: skip


def write(folder, solver=SOLVER, arch="tiny", width=0.05, batch=2, **changes):
    text = train_text(describe_training(arch, width=width)).replace("batch_size: 16", f"batch_size: {batch}")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "train.prototxt").write_text(text)
    (folder / "solver.prototxt").write_text(solver)
    return folder / "solver.prototxt"


def metrics(folder, kind="train"):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def train(solver, out, **given):
    """The caffemodel that a run of few held-out people, scored at its end, writes last."""
    return train_solver(solver, out, validate_every=1.0, validate_people=3, **given).model
