"""LSP and LSP-extended together, as the release trained on them: readers and records."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import scipy.io

from cpm_repro.data import open_dataset
from cpm_repro.data.lsp import read_lsp
from cpm_repro.data.lsp_scale import lsp_scales
from cpm_repro.data.record import record_joints
from cpm_repro.data.release_records import leeds_records
from cpm_repro.skeleton import CPM14, Visibility


def test_lsp(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.uniform(5, 100, (3, 14, 1002))
    values[2] = rng.random((14, 1002)) < 0.2
    (tmp_path / "images").mkdir()
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": values})
    annotations = read_lsp(tmp_path / "joints.mat")
    assert annotations.read == 1002
    assert [p.split for _, p in annotations.people()] == ["train"] * 1000 + ["test"] * 2
    image, own = list(annotations.people())[1000]
    assert image.path == "im1001.jpg"
    assert own.joints == pytest.approx(values[:2, :, 1000].T - 1)
    assert np.array_equal(own.visible == Visibility.OCCLUDED, values[2, :, 1000] == 1)
    assert own.scale == pytest.approx(lsp_scales(values[:2].transpose(2, 1, 0), values[2].T == 0)[1000])
    cv2.imwrite(str(tmp_path / "images" / "im1001.jpg"), np.zeros((120, 110, 3), np.uint8))
    dataset = open_dataset(str(tmp_path), "val")
    assert len(dataset) == 2
    assert dataset.skeleton is CPM14
    assert dataset[0].joints[0, 0] == pytest.approx(values[:2, 13, 1000] - 1, abs=1e-4)


def test_leeds_records(tmp_path):
    rng = np.random.default_rng(1)
    extended = rng.uniform(5, 100, (14, 3, 4))
    extended[:, 2] = rng.random((14, 4)) < 0.8
    extended[12:, 2] = 1
    plain = rng.uniform(5, 100, (3, 14, 3))
    plain[2] = 0
    plain[2, 2, 0] = 1
    scipy.io.savemat(tmp_path / "e.mat", {"joints": extended})
    scipy.io.savemat(tmp_path / "p.mat", {"joints": plain})

    def size(_: str) -> tuple[int, int]:
        return (110, 130)

    records = list(leeds_records(tmp_path / "e.mat", size, tmp_path / "p.mat"))
    assert [r.img_path for r in records][3:5] == [
        "lspet_dataset/images/im00004.jpg",
        "lsp_dataset/images/im0001.jpg",
    ]
    first, lsp = records[0], records[4]
    assert first.joint_self[:6] == pytest.approx(extended[:6, :, 0])
    assert first.joint_self[6:8].tolist() == [[0, 0, 0]] * 2
    assert first.joint_self[8:10] == pytest.approx(extended[12:, :, 0])
    seen = extended[:, 2, 0] == 1
    box = extended[seen, :2, 0]
    assert first.objpos == pytest.approx((box.min(axis=0) + box.max(axis=0)) / 2)
    assert lsp.joint_self[6:8].tolist() == [[0, 0, 1]] * 2
    assert lsp.joint_self[2, 2] == 0
    assert lsp.objpos == pytest.approx([55, 65])
    joints = np.concatenate([extended[:, :2].transpose(2, 0, 1), plain[:2].transpose(2, 1, 0)])
    labelled = np.concatenate([extended[:, 2].T == 1, plain[2].T == 0])
    pooled = lsp_scales(joints, labelled)  # limb ratios over the people of both files
    assert [record.scale for record in records] == pytest.approx(pooled)
    assert pooled[:4] != pytest.approx(lsp_scales(joints[:4], labelled[:4]))
    _, visible, _ = record_joints(lsp, 14)
    assert visible.shape == (1, 14)
    _, all16, _ = record_joints(lsp, 16)
    assert (all16[0, 6:8] == Visibility.CROPPED).all()
