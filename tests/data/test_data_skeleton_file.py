"""Skeletons in files of their own, TOML or YAML."""

from __future__ import annotations

import pytest

from cpm_repro.data import open_dataset
from cpm_repro.data.skeleton_file import read_skeleton
from cpm_repro.errors import UserError


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("parts = 3", "parts"),
        ('parts = ["a"]\nlimbs = [["a", "b"]]', "'b' is not among the parts"),
        ('parts = ["a"]\ncolour = 1', "unknown key colour"),
        ("parts = [", "expected TOML"),
        ('parts = ["a", "a"]', "unique"),
    ],
)
def test_bad_skeleton_files(tmp_path, text, what):
    (tmp_path / "skeleton.toml").write_text(text)
    with pytest.raises(UserError, match=what):
        read_skeleton(tmp_path / "skeleton.toml")


YAML = "name: hand\nparts: [root, left_tip, right_tip]\nflip_pairs: [[left_tip, right_tip]]\n"


@pytest.mark.parametrize("suffix", ["yaml", "yml"])
def test_a_skeleton_in_yaml(tmp_path, suffix):
    pytest.importorskip("yaml", reason="PyYAML is not installed")
    (tmp_path / f"skeleton.{suffix}").write_text(
        YAML + "limbs:\n  - [root, left_tip]\ntorso: [root, right_tip]\n"
    )
    (tmp_path / "skeleton.toml").write_text(
        'name = "hand"\nparts = ["root", "left_tip", "right_tip"]\n'
        'flip_pairs = [["left_tip", "right_tip"]]\nlimbs = [["root", "left_tip"]]\n'
        'torso = ["root", "right_tip"]\n'
    )
    skeleton = read_skeleton(tmp_path / f"skeleton.{suffix}")
    assert skeleton == read_skeleton(tmp_path / "skeleton.toml")
    header = "image,root_x,root_y,left_tip_x,left_tip_y,right_tip_x,right_tip_y,split\n"
    (tmp_path / "hands.csv").write_text(header + "a.png,1,2,3,4,5,6,train\nb.png,1,2,3,4,5,6,val\n")
    with pytest.raises(UserError, match=r"which one is the skeleton, skeleton\.toml or skeleton\.y"):
        open_dataset(str(tmp_path), "train")
    (tmp_path / "skeleton.toml").unlink()
    assert open_dataset(str(tmp_path), "train").skeleton == skeleton


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("parts: 3", "expected parts"),
        ("- a\n- b", "expected a table"),
        ("parts: [a", "expected YAML"),
        ("parts: !!python/object/apply:os.system ['true']", "expected YAML"),
        ("parts: [a]\ncolour: 1", "unknown key colour"),
        ("1: 2", "expected a table"),
    ],
)
def test_bad_yaml_skeletons(tmp_path, text, what):
    pytest.importorskip("yaml", reason="PyYAML is not installed")
    (tmp_path / "skeleton.yaml").write_text(text)
    with pytest.raises(UserError, match=what) as caught:
        read_skeleton(tmp_path / "skeleton.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("line", "pairs"), [("", ((2, 1),)), ("flip_pairs = []\n", ())])
def test_pairs_that_are_not_said_are_told_by_the_names(tmp_path, line, pairs):
    """A file that named only the torso stopped mirrored sides from changing places."""
    (tmp_path / "skeleton.toml").write_text(f'parts = ["root", "left_tip", "right_tip"]\n{line}')
    assert read_skeleton(tmp_path / "skeleton.toml").flip_pairs == pairs


@pytest.mark.parametrize(("line", "torso"), [("", (2, 1)), ('torso = ["nose", "right_hip"]\n', (0, 1))])
def test_a_body_that_names_no_torso_has_pcks(tmp_path, line, torso):
    """Training wanted one of a body whose file named only its parts."""
    (tmp_path / "skeleton.toml").write_text(f'parts = ["nose", "right_hip", "left_shoulder"]\n{line}')
    assert read_skeleton(tmp_path / "skeleton.toml").torso == torso
