from __future__ import annotations

import numpy as np
import pytest
from data_fakes import lspet_joints, write_lspet
from support import data_root

from cpm_repro.data import check_data, open_dataset, read_lspet_joints
from cpm_repro.data.annotations import DataWarning
from cpm_repro.errors import UserError
from cpm_repro.skeleton import CPM14, LSP14, Visibility


def test_every_18th_person_is_validation(tmp_path):
    joints = lspet_joints(40)
    folder = write_lspet(tmp_path / "lspet", joints)
    train, val = open_dataset(str(folder), "train"), open_dataset(str(folder), "val")
    assert (len(train), len(val)) == (37, 3)
    assert [val[i].id for i in range(3)] == [f"lspet/im{n:05d}.jpg" for n in (1, 19, 37)]
    ids = {train[i].id for i in range(37)} | {val[i].id for i in range(3)}
    assert len(ids) == 40
    assert round(float(val[1].image.mean())) == 19


def test_joints_are_zero_based_in_the_nets_order(tmp_path):
    joints = lspet_joints(19)
    sample = open_dataset(str(write_lspet(tmp_path / "lspet", joints)), "val")[1]
    assert sample.joints.shape == (1, 14, 2)
    for k, part in enumerate(CPM14.parts):
        x, y, flag = joints[LSP14.index(part), :, 18]
        assert sample.visible[0, k] == (Visibility.VISIBLE if flag else Visibility.CROPPED)
        assert sample.joints[0, k] == pytest.approx([x - 1, y - 1], abs=1e-4)


def test_center_and_extent_ignore_unlabelled_joints(tmp_path):
    joints = lspet_joints(1)
    joints[:, 2] = 1
    joints[3] = [[-900.0], [5000.0], [0.0]]
    sample = open_dataset(str(write_lspet(tmp_path / "lspet", joints)), "val")[0]
    known = np.delete(joints[:, :2, 0], 3, axis=0) - 1
    low, high = known.min(axis=0), known.max(axis=0)
    assert sample.center == pytest.approx((low + high) / 2, abs=1e-4)
    assert sample.extent == pytest.approx((high - low).max(), abs=1e-4)


def test_size_takes_the_first_people(tmp_path):
    folder = write_lspet(tmp_path / "lspet", lspet_joints(40))
    assert len(open_dataset(str(folder), "train", size=5)) == 5


def test_the_real_files():
    folder = data_root("lspet")
    train, val = open_dataset(str(folder), "train"), open_dataset(str(folder), "val")
    assert (len(train), len(val)) == (8500, 500)
    sample = val[499]
    assert sample.id == "lspet/im08983.jpg"
    labelled = sample.joints[0][sample.visible[0] == Visibility.VISIBLE]
    height, width = sample.image.shape[:2]
    assert (labelled >= -1).all()
    assert (labelled <= [width, height]).all()


def error_of(spec, split="train") -> str:
    with pytest.raises(UserError) as caught:
        open_dataset(str(spec), split)[0]
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_missing_folder(tmp_path):
    assert "nowhere" in error_of(tmp_path / "nowhere")


def test_unknown_layout_names_what_is_there(tmp_path):
    (tmp_path / "holiday.txt").write_text("x")
    assert "joints.mat" in error_of(tmp_path)
    assert "holiday.txt" in error_of(tmp_path)


def test_joints_of_another_shape(tmp_path):
    folder = write_lspet(tmp_path / "lsp", np.zeros((5, 14, 3)), images=3)
    message = error_of(folder)
    assert "14 x 3 x N" in message
    assert "5 x 14 x 3" in message


def test_joints_without_the_variable(tmp_path):
    import scipy.io

    folder = write_lspet(tmp_path / "lspet", lspet_joints(2))
    scipy.io.savemat(folder / "joints.mat", {"knees": np.zeros(3)})
    assert "'joints'" in error_of(folder)


@pytest.mark.parametrize("keep", [0, 100, 2000])
def test_truncated_mat(tmp_path, keep):
    folder = write_lspet(tmp_path / "lspet", lspet_joints(20))
    whole = (folder / "joints.mat").read_bytes()
    (folder / "joints.mat").write_bytes(whole[:keep])
    assert "joints.mat" in error_of(folder)


def test_fewer_images_than_joints(tmp_path):
    folder = write_lspet(tmp_path / "lspet", lspet_joints(5), images=3)
    with pytest.warns(
        DataWarning, match=r"5 people read, 3 used, 2 reported: person 4: im00004\.jpg is missing"
    ):
        assert len(open_dataset(str(folder), "train")) == 2
    message = error_of(write_lspet(tmp_path / "none", lspet_joints(5), images=0))
    assert "all of their images are missing" in message


def test_images_is_not_a_folder(tmp_path):
    folder = write_lspet(tmp_path / "lspet", lspet_joints(1), images=0)
    (folder / "images").rmdir()
    (folder / "images").write_text("not a folder")
    assert "images" in error_of(folder)


def test_nan_in_a_labelled_joint(tmp_path):
    joints = lspet_joints(4)
    joints[0, :, 2] = [np.nan, 5, 1]
    folder = write_lspet(tmp_path / "lspet", joints)
    joints[0, :, 3] = [5, 1e300, 1]
    far = write_lspet(tmp_path / "far", joints)
    with pytest.warns(
        DataWarning, match="4 people read, 2 used, 2 reported: .*person 4: joint 1 is labelled"
    ):
        open_dataset(str(far), "train")
    with pytest.warns(DataWarning, match="4 people read, 3 used, 1 reported: person 3: joint 1 is labelled"):
        dataset = open_dataset(str(folder), "train")
    assert [dataset[k].id for k in range(2)] == ["lspet/im00002.jpg", "lspet/im00004.jpg"]
    assert "1 reported" in check_data(folder).summary


def test_nan_in_an_unlabelled_joint_is_allowed(tmp_path):
    joints = lspet_joints(2)
    joints[4, :, :] = [[np.nan], [np.nan], [0]]
    _, labelled = read_lspet_joints(write_lspet(tmp_path / "lspet", joints) / "joints.mat")
    assert not labelled[:, 4].any()
    sample = open_dataset(str(tmp_path / "lspet"), "val")[0]
    assert np.isfinite(sample.joints).all()


def test_a_person_without_labels_is_reported_and_the_others_are_used(tmp_path):
    joints = lspet_joints(4)
    joints[:, 2, 3] = 0
    folder = write_lspet(tmp_path / "lspet", joints)
    with pytest.warns(DataWarning, match="4 people read, 3 used, 1 reported: person 4: no labelled joint"):
        dataset = open_dataset(str(folder), "train")
    assert [dataset[k].id for k in range(len(dataset))] == ["lspet/im00002.jpg", "lspet/im00003.jpg"]
    assert [str(problem) for problem in dataset.problems] == ["person 4: no labelled joint"]


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\xff\xd8\xff\xe0 broken"])
def test_image_that_does_not_decode(tmp_path, content):
    folder = write_lspet(tmp_path / "lspet", lspet_joints(2))
    (folder / "images" / "im00002.jpg").write_bytes(content)
    assert "im00002.jpg" in error_of(folder)


def test_image_that_is_a_folder(tmp_path):
    folder = write_lspet(tmp_path / "lspet", lspet_joints(1))
    (folder / "images" / "im00001.jpg").unlink()
    (folder / "images" / "im00001.jpg").mkdir()
    assert "got a folder" in error_of(folder, "val")
