"""Counting people in annotation files made like the originals."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io

from cpm_repro.checklist.checks_data import (
    flic_training_people,
    lsp_training_people,
    mpii_test_people,
    mpii_training_people,
)
from cpm_repro.checklist.context import Context
from cpm_repro.errors import UserError


def struct(**fields):
    record = np.empty((1, 1), dtype=[(name, object) for name in fields])
    for name, value in fields.items():
        record[0, 0][name] = value
    return record


def row(*records):
    return np.concatenate(records, axis=1)


def test_mpii(tmp_path):
    person = struct(annopoints=struct(point=struct(x=1.0, y=2.0, id=0.0)))
    bare = struct(annopoints=np.zeros((0, 0)))
    annolist = row(
        struct(annorect=row(person, person, bare)),  # training: one of two is held out
        struct(annorect=person),  # training
        struct(annorect=row(person, person)),  # test
        struct(annorect=np.zeros((0, 0))),  # training, nobody
    )
    single = np.empty((4, 1), object)
    for index, numbers in enumerate(([[1.0], [2.0]], [1.0], [[1.0], [2.0]], np.zeros((0, 0)))):
        single[index, 0] = np.array(numbers)
    release = struct(annolist=annolist, img_train=np.array([[1, 1, 0, 1]]), single_person=single)
    (tmp_path / "mpii").mkdir()
    scipy.io.savemat(tmp_path / "mpii" / "mpii_human_pose_v1_u12_1.mat", {"RELEASE": release})
    np.savez(tmp_path / "mpii_val_pairs.npz", image_index=np.array([1]), person_index=np.array([2]))
    context = Context(data=tmp_path)
    assert mpii_training_people(context) == 2
    assert mpii_training_people(context, drop_whole_images=True) == 1
    assert mpii_test_people(context) == 2


def test_flic(tmp_path):
    examples = row(struct(istrain=1.0), struct(istrain=0.0), struct(istrain=1.0))
    (tmp_path / "flic").mkdir()
    scipy.io.savemat(tmp_path / "flic" / "examples.mat", {"examples": examples})
    assert flic_training_people(Context(data=tmp_path)) == 2


def test_files_of_other_content_are_refused_by_name(tmp_path):
    for folder in ("mpii", "flic", "lsp", "lspet_full"):
        (tmp_path / folder).mkdir()
    mpii = struct(annolist=struct(annorect=np.zeros((0, 0))), img_train=np.array([[1, 0]]))
    scipy.io.savemat(tmp_path / "mpii" / "mpii_human_pose_v1_u12_1.mat", {"RELEASE": mpii})
    np.savez(tmp_path / "mpii_val_pairs.npz", image_index=np.array([1]), person_index=np.array([2]))
    scipy.io.savemat(tmp_path / "flic" / "examples.mat", {"examples": np.zeros(3)})
    for folder, shape in (("lsp", (14, 3, 9)), ("lspet_full", (14, 3, 9))):
        scipy.io.savemat(tmp_path / folder / "joints.mat", {"joints": np.zeros(shape)})
    for count, words in (
        (mpii_training_people, "wanted RELEASE with annolist and img_train of one length"),
        (mpii_test_people, "wanted RELEASE with single_person and img_train of one length"),
        (flic_training_people, "wanted FLIC's examples with istrain"),
        (lsp_training_people, "wanted joints of 3 x 14 x N"),
    ):
        with pytest.raises(UserError, match=words):
            count(Context(data=tmp_path))
    scipy.io.savemat(tmp_path / "lspet_full" / "joints.mat", {"other": 1.0})
    with pytest.raises(UserError, match="expected a variable 'joints'"):
        lsp_training_people(Context(data=tmp_path))


def test_lsp(tmp_path):
    for name, shape in (("lsp", (3, 14, 20)), ("lspet_full", (14, 3, 50))):
        (tmp_path / name).mkdir()
        scipy.io.savemat(tmp_path / name / "joints.mat", {"joints": np.zeros(shape)})
    assert lsp_training_people(Context(data=tmp_path)) == 60
