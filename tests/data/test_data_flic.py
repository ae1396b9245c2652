"""FLIC's annotations and their release records."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
from matlab_fakes import flic_example, structs

from cpm_repro.data.flic import faces_away, read_flic
from cpm_repro.data.release_records import annotation_records
from cpm_repro.errors import UserError
from cpm_repro.skeleton import FLIC9


def test_flic(tmp_path):
    none = flic_example(False, coords=np.full((2, 29), np.nan))
    flat = flic_example(False, torsobox=np.array([[35.0, 20, 65, 20]]))
    examples = [
        flic_example(False),
        flic_example(True),
        none,
        flat,
        flic_example(False, istrain=0.0, istest=1.0),
    ]
    scipy.io.savemat(tmp_path / "examples.mat", {"examples": structs(examples)})
    annotations = read_flic(tmp_path / "examples.mat")
    assert annotations.read == 5
    assert [problem.id for problem in annotations.problems] == ["example 3", "example 4"]
    own, away, test = annotations.images[0].people
    assert own.joints[0] == pytest.approx([59, 29])
    assert own.joints[8] == pytest.approx([49, 39])  # the nose
    assert own.joints[7] == pytest.approx([44, 36])
    assert own.scale == pytest.approx(1.1)
    assert own.center == pytest.approx([49, 0.7 * 19 + 0.3 * 119])
    assert (own.split, test.split) == ("train", "test")
    left, right = FLIC9.index("left_shoulder"), FLIC9.index("right_shoulder")
    assert away.joints[left, 0] > away.joints[right, 0]
    as_annotated = read_flic(tmp_path / "examples.mat", observer_centric=False).images[0].people[1]
    assert as_annotated.joints[left, 0] < as_annotated.joints[right, 0]
    records = list(annotation_records(annotations, "FLIC", lambda _: (100, 150), "images/"))
    assert [record.people_index for record in records] == [1, 2]
    assert (records[0].img_path, records[0].others) == ("images/f.jpg", 2)
    assert records[0].joint_self.shape == (9, 3)
    assert (records[0].joint_self[:, 2] == 1).all()


@pytest.mark.parametrize("content", [{}, {"examples": np.zeros(3)}, {"examples": structs([{"other": 1.0}])}])
def test_not_flic(tmp_path, content):
    scipy.io.savemat(tmp_path / "examples.mat", content)
    with pytest.raises(UserError, match=r"examples\.mat: expected"):
        read_flic(tmp_path / "examples.mat")
    (tmp_path / "examples.mat").unlink()
    with pytest.raises(UserError, match="nothing there"):
        read_flic(tmp_path / "examples.mat")


@pytest.mark.parametrize("field", ["coords", "torsobox"])
@pytest.mark.parametrize("value", ["text", structs([{"a": 1.0}]), np.array([["a", [1, 2]]], object), 1 + 2j])
def test_fields_of_flic_that_hold_no_numbers_are_reported(tmp_path, field, value):
    people = structs([flic_example(False), flic_example(False, **{field: value})])
    scipy.io.savemat(tmp_path / "examples.mat", {"examples": people})
    read = read_flic(tmp_path / "examples.mat")
    assert (len(read.images), len(read.problems)) == (1, 1)


def test_whose_shoulders_lie_one_above_the_other_does_not_face_away():
    joints = np.arange(18.0).reshape(9, 2)
    left, right = FLIC9.index("left_shoulder"), FLIC9.index("right_shoulder")
    joints[[left, right], 0] = 5.0
    assert not faces_away(joints)
    joints[right, 0] += 0.5
    assert faces_away(joints)
