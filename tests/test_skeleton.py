"""Names, orders and structure of bodies, held against the numbers written in the spec pages."""

import json

import pytest

from cpm_repro.errors import UserError
from cpm_repro.skeleton import (
    CPM14,
    FLIC9,
    LSP14,
    LSP_TO_CPM14,
    MPII16,
    MPII_TO_CPM14,
    SKELETONS,
    Skeleton,
    limb_colours,
    named_pairs,
    part_colours,
)


def test_mpii_order_is_the_data_layers():
    assert MPII_TO_CPM14 == (9, 8, 12, 11, 10, 13, 14, 15, 2, 1, 0, 3, 4, 5)


def test_limbs_are_the_releases_one_based_list():
    one_based = [(a + 1, b + 1) for a, b in CPM14.limbs]
    assert one_based == [(1, 2), (3, 4), (4, 5), (6, 7), (7, 8), (9, 10), (10, 11), (12, 13), (13, 14)]
    assert sorted((a + 1, b + 1) for a, b in FLIC9.limbs) == [(1, 2), (2, 3), (4, 5), (5, 6)]


def test_flip_swaps_the_releases_pairs():
    right, left = [2, 3, 4, 8, 9, 10], [5, 6, 7, 11, 12, 13]
    assert [CPM14.flip_permutation[index] for index in right] == left
    assert [CPM14.flip_permutation[index] for index in left] == right
    assert [FLIC9.flip_permutation[index] for index in [0, 1, 2, 6]] == [3, 4, 5, 7]


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda skeleton: skeleton.name)
def test_flipping_twice_changes_nothing(skeleton):
    once = skeleton.flip_permutation
    assert [once[index] for index in once] == list(range(len(skeleton)))


def test_lsp_order():
    # Spec `inference.md`: LSP joint of our part i, 1-based.
    assert [index + 1 for index in LSP_TO_CPM14] == [14, 13, 9, 8, 7, 10, 11, 12, 3, 2, 1, 4, 5, 6]


def test_torso_is_left_shoulder_to_right_hip():
    assert LSP14.torso == (9, 2)  # joints 10 and 3, 1-based
    assert CPM14.torso is not None
    assert [CPM14.parts[index] for index in CPM14.torso] == ["left_shoulder", "right_hip"]


def test_groups_cover_the_rows_of_the_papers_tables():
    assert [name for name, _ in CPM14.groups] == [
        "Head",
        "Shoulder",
        "Elbow",
        "Wrist",
        "Hip",
        "Knee",
        "Ankle",
    ]
    assert dict(MPII16.groups)["Knee"] == (1, 4)


def test_colours_differ():
    assert len(set(limb_colours(CPM14))) == len(CPM14.limbs)
    assert len(set(part_colours(CPM14))) == 14


@pytest.mark.parametrize(
    ("parts", "pairs", "limbs"),
    [(("a", "a"), (), ()), (("a", "b"), ((0, 2),), ()), (("a",), (), ((0, 1),)), ((), (), ())],
)
def test_nonsense_is_refused(parts, pairs, limbs):
    with pytest.raises(UserError, match="skeleton mine"):
        Skeleton("mine", parts, pairs, limbs)


def test_pairs_by_which_parts_would_be_lost_are_refused():
    """Of three parts in a chain of pairs mirroring made two copies of one, and lost another."""
    parts = ("nose", "left_ear", "right_ear")
    for pairs in (((0, 1), (1, 2)), ((0, 1), (0, 2)), ((0, 1), (1, 2), (2, 0))):
        with pytest.raises(UserError, match=r"skeleton mine: .* is in more than one of the flip pairs"):
            Skeleton("mine", parts, pairs, ())
    assert Skeleton("mine", parts, ((1, 2), (2, 1)), ()).flip_permutation == (0, 2, 1)
    with pytest.raises(UserError, match="distance between two parts, got nose twice"):
        Skeleton("mine", parts, (), (), torso=(0, 0))


def test_sides_are_told_by_the_names_whatever_their_capitals():
    assert named_pairs(("RightHand", "tail", "LeftHand", "right_ear", "right foot", "Left Foot")) == (
        (0, 2),
        (4, 5),
    )


def test_sides_stand_anywhere_in_the_names():
    """The corners of a box were mirrored without trading places."""
    assert named_pairs(("top_left", "topRight", "bottom right", "bottom left", "top_right")) == (
        (2, 3),
        (4, 0),
    )
    eyes = [f"{eye}_eye_{corner}_corner" for eye in ("left", "right") for corner in ("left", "right")]
    assert named_pairs(eyes) == ((2, 0), (3, 1))
    assert named_pairs(("mid_right_of_left", "mid_left_of_left", "bright", "copyright")) == ()


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=list(SKELETONS))
def test_a_skeleton_comes_back_from_json(skeleton):
    assert Skeleton.from_dict(json.loads(json.dumps(skeleton.to_dict()))) == skeleton


@pytest.mark.parametrize("key", ["parts", "limbs", "torso", "groups"])
def test_values_that_are_no_skeleton_are_refused(key):
    with pytest.raises(UserError):
        Skeleton.from_dict({**CPM14.to_dict(), key: 3})


def test_lists_make_the_same_skeleton():
    lists = Skeleton(
        "x", ["left_hand", "right_hand", "nose"], [[0, 1]], [[0, 2]], [0, 2], [["Hands", [0, 1]]]
    )
    parts = ("left_hand", "right_hand", "nose")
    tuples = Skeleton("x", parts, ((0, 1),), ((0, 2),), (0, 2), (("Hands", (0, 1)),))
    assert lists == tuples
    assert hash(lists) == hash(tuples)
    with pytest.raises(UserError, match="skeleton x: wanted a list of part names, got 'nose'"):
        Skeleton("x", "nose", (), ())
