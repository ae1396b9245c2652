"""Damaged annotations, predictions, checkpoints and skeletons: an answer or one line, soon, in little memory.

Caffe's formats have the same in ``tests/caffe/test_caffe_fuzz.py``. Bounded for ordinary runs;
``CPM_FUZZ_EXAMPLES=5000 pytest tests/trust/test_trust_files.py --timeout 0`` is a long one.
"""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from cpm_repro.caffe.weight_files import read_weight_file
from cpm_repro.config import TrainConfig, to_dict
from cpm_repro.data.coco import read_coco
from cpm_repro.data.csv_table import read_csv
from cpm_repro.data.flic import read_flic
from cpm_repro.data.lsp import read_lsp, read_lspet_joints
from cpm_repro.data.mpii import read_mpii_json, read_mpii_mat, read_val_pairs
from cpm_repro.data.record_json import read_records
from cpm_repro.data.skeleton_file import read_skeleton
from cpm_repro.errors import UserError
from cpm_repro.evaluation.prediction_files import read_predictions
from cpm_repro.evaluation.truth_files import read_truth
from cpm_repro.model.checkpoint_file import CHECKPOINT_FORMAT, read_checkpoint_file

EXAMPLES = int(os.environ.get("CPM_FUZZ_EXAMPLES", "40"))
SLOWEST = 2.0  # seconds for one small file
MEMORY = 64 << 20  # bytes beyond four times what the file decodes to, which is a few kB

few = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=EXAMPLES <= 1000,
    suppress_health_check=list(HealthCheck),
)


def _struct(**fields: Any) -> np.ndarray:
    array = np.empty((1, 1), dtype=[(name, object) for name in fields])
    for name, value in fields.items():
        array[name][0, 0] = value
    return array


def _mpii(path: Path, compress: bool) -> None:
    points = np.concatenate([_struct(x=10.0 * i, y=5.0 * i, id=float(i)) for i in range(16)], axis=1)
    rect = _struct(annopoints=_struct(point=points), scale=2.0, objpos=_struct(x=50.0, y=60.0))
    annolist = _struct(image=_struct(name="a.jpg"), annorect=rect)
    release = _struct(annolist=annolist, img_train=np.ones((1, 1)))
    scipy.io.savemat(path, {"RELEASE": release}, do_compression=compress)


def _flic(path: Path) -> None:
    example = _struct(filepath="a.jpg", coords=np.ones((2, 29)), torsobox=np.array([[1.0, 2, 30, 40]]),
                      istest=1.0, istrain=0.0)  # fmt: skip
    scipy.io.savemat(path, {"examples": example})


def _coco(path: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "categories": [{"name": "x", "keypoints": ["a", "b"], "skeleton": [[1, 2]]}],
        "annotations": [{"id": 1, "image_id": 1, "keypoints": [1, 2, 2, 3, 4, 1], "bbox": [0, 0, 9, 9]}],
    }
    path.write_text(json.dumps(content))


def _mpii_json(path: Path) -> None:
    person = {
        "image": "a.jpg",
        "center": [5, 6],
        "scale": 2.0,
        "joints": [[1, 2]] * 16,
        "joints_vis": [1] * 16,
    }
    path.write_text(json.dumps([person]))


def _records(path: Path) -> None:
    record = {
        "dataset": "MPI", "isValidation": 0, "img_paths": "a.jpg", "img_width": 64, "img_height": 64,
        "objpos": [1, 2], "joint_self": [[1, 2, 1]] * 16, "scale_provided": 1.5, "joint_others": [],
        "scale_provided_other": [], "objpos_other": [], "annolist_index": 1, "people_index": 1,
        "numOtherPeople": 0,
    }  # fmt: skip
    path.write_text(json.dumps({"root": [record]}))


def _csv(path: Path) -> None:
    path.write_text("image,a_x,a_y,b_x,b_y,split\nx.jpg,1,2,3,4,train\ny.jpg,5,6,,,val\n")


def _skeleton(path: Path) -> None:
    path.write_text('name = "h"\nparts = ["a", "b"]\nflip_pairs = [["a", "b"]]\nlimbs = [["a", "b"]]\n')


def _checkpoint(path: Path) -> None:
    config = json.dumps(to_dict(TrainConfig()))
    content = {"format": CHECKPOINT_FORMAT, "config": config, "iteration": 1, "seconds": 1.0, "best": 0.0,
               "model": {"conv.weight": torch.ones(2, 2)}, "optimizers": []}  # fmt: skip
    torch.save(content, path)


def _safetensors(path: Path) -> None:
    save_file({"conv.weight": np.ones((2, 2), np.float32)}, path)


def _npz(path: Path) -> None:
    np.savez(path, pred=np.ones((3, 14, 2)), gt=np.ones((3, 14, 2)), image=np.array(["a", "b", "c"]))


def _pairs(path: Path) -> None:
    np.savez(path, image_index=np.ones(4, int), person_index=np.ones(4, int))


def _array(name: str, shape: tuple[int, ...], compress: bool = False) -> Callable[[Path], None]:
    return lambda path: scipy.io.savemat(path, {name: np.ones(shape)}, do_compression=compress)


CASES: dict[str, tuple[str, Callable[[Path], None], Callable[[Path], Any]]] = {
    "lspet": ("joints.mat", _array("joints", (14, 3, 4)), read_lspet_joints),
    "lspet packed": ("joints.mat", _array("joints", (14, 3, 4), True), read_lspet_joints),
    "lsp": ("joints.mat", _array("joints", (3, 14, 4)), read_lsp),
    "mpii": ("m.mat", lambda path: _mpii(path, False), read_mpii_mat),
    "mpii packed": ("m.mat", lambda path: _mpii(path, True), read_mpii_mat),
    "flic": ("examples.mat", _flic, read_flic),
    "pairs": ("p.npz", _pairs, read_val_pairs),
    "mpii json": ("m.json", _mpii_json, read_mpii_json),
    "coco": ("c.json", _coco, read_coco),
    "csv": ("t.csv", _csv, read_csv),
    "records": ("r.json", _records, read_records),
    "skeleton": ("skeleton.toml", _skeleton, read_skeleton),
    "checkpoint": ("x.pt", _checkpoint, read_checkpoint_file),
    "weights pt": ("x.pt", _checkpoint, read_weight_file),
    "safetensors": ("x.safetensors", _safetensors, read_weight_file),
    "predictions": ("p.npz", _npz, read_predictions),
    "predictions mat": ("p.mat", _array("prediction_all", (14, 2, 3)), read_predictions),
    "truth": ("t.npz", _npz, read_truth),
    "truth mat": ("t.mat", _array("joints", (3, 14, 4)), read_truth),
}  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """``whole`` with a few bytes changed, put in, left out or doubled, or cut off."""
    raw = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(raw)))
        junk = draw(st.one_of(st.binary(min_size=1, max_size=8), st.just(b"\xff" * 4), st.just(b"9" * 9)))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            raw[place : place + len(junk)] = junk
        elif kind == 1:
            raw[place:place] = junk
        elif kind == 2:
            del raw[place : place + draw(st.integers(1, 60))]
        elif kind == 3:
            raw[place:place] = raw[max(0, place - 60) : place]
        else:
            del raw[place:]
    return bytes(raw)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")  # what libraries remark on damaged files
def test_damaged_files(name, tmp_path):
    file, write, read = CASES[name]
    path = tmp_path / file
    write(path)
    read(path)  # the control: whole, it is read
    whole = path.read_bytes()

    @few
    @given(damaged(whole))
    def run(raw: bytes) -> None:
        path.write_bytes(raw)
        message, started = "", time.perf_counter()
        tracemalloc.start()
        try:
            read(path)
        except UserError as error:
            message = str(error)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert "\n" not in message
        assert time.perf_counter() - started < SLOWEST
        assert peak < MEMORY, peak

    run()


DEEP = 200_000


@pytest.mark.parametrize("read", [read_mpii_json, read_coco, read_records])
def test_nested_json_is_refused(read, tmp_path):
    """A file of nothing but brackets must not overflow the stack."""
    path = tmp_path / "deep.json"
    path.write_text("[" * DEEP + "]" * DEEP)
    with pytest.raises(UserError, match=r"deep\.json"):
        read(path)
