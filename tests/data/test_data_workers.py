"""Data sets in the worker processes of other loaders, such as PyTorch's, which may be started afresh."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np
import pytest
from data_fakes import lspet_joints, write_lspet

from cpm_repro.data import MixedDataset, open_dataset
from cpm_repro.data.commands import lmdb_command
from cpm_repro.data.image_cache import ImageCache


@pytest.fixture
def datasets(tmp_path):
    """One of every kind: LSP-extended, a table, an LMDB of the table, rendered people, a mix."""
    lspet = open_dataset(str(write_lspet(tmp_path / "lspet", lspet_joints(3))), "train")
    table = tmp_path / "table"
    table.mkdir()
    cv2.imwrite(str(table / "a.png"), np.full((40, 30, 3), 7, np.uint8))
    (table / "skeleton.toml").write_text('name = "stick"\nparts = ["a", "b"]\n')
    row = "a.png,5,5,20,30,12,18,0.2\n"
    (table / "sticks.csv").write_text("image,a_x,a_y,b_x,b_y,center_x,center_y,scale,split\n")
    with open(table / "sticks.csv", "a", encoding="utf-8") as file:
        file.write(row.replace("\n", ",val\n") + row.replace("\n", ",train\n"))
    lmdb_command([table], tmp_path / "lmdb")
    (tmp_path / "lmdb" / "skeleton.toml").write_text((table / "skeleton.toml").read_text())
    own = open_dataset(str(table), "train")
    stored = open_dataset(str(tmp_path / "lmdb"), "train")
    return [lspet, own, stored, open_dataset("synthetic", "train", size=2), MixedDataset([own, stored])]


def last(dataset) -> tuple[str, int]:
    """What a worker sees of the last sample."""
    sample = dataset[len(dataset) - 1]
    return sample.id, int(sample.image.sum(dtype=np.int64))


def test_a_process_started_afresh_gives_the_same_samples(datasets):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(last, datasets)) == [last(dataset) for dataset in datasets]


def test_copies_give_the_same_samples(datasets):
    for dataset in datasets:
        assert last(copy.deepcopy(dataset)) == last(dataset)


def test_pictures_do_not_travel(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((100, 100, 3), np.uint8))
    cache = ImageCache(budget=30_000)
    cache.read(tmp_path / "a.png")
    content = pickle.dumps(cache)
    assert len(content) < 1000
    again = pickle.loads(content)
    assert again.read(tmp_path / "a.png") is again.read(tmp_path / "a.png")
