"""What must be in the pictures, looked for in their pixels."""

from __future__ import annotations

import json
import threading
import xml.etree.ElementTree as ElementTree

import cv2
import numpy as np
import pytest

from cpm_repro.errors import EnvironmentFailure, UserError
from cpm_repro.skeleton import CPM14, Skeleton, limb_colours, part_colours
from cpm_repro.viz import (
    belief_grid,
    contact_sheet,
    curves,
    draw_pose,
    draw_poses,
    legend,
    save_jpg,
    save_png,
)
from cpm_repro.viz.figure import figure_of

PAIR = Skeleton("pair", ("a", "b"), (), ((0, 1),))


def grey(height: int = 100, width: int = 200) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def test_joints_have_their_colour_and_limbs_are_blended():
    image = grey()
    drawn = draw_pose(image, [[40, 50], [160, 50]], [0.9, 0.9], PAIR)
    assert (image == 128).all(), "the image given stays as it is"
    for point, colour in zip([(40, 50), (160, 50)], part_colours(PAIR), strict=True):
        assert tuple(drawn[point[1], point[0]]) == colour
    expected = 0.6 * np.array(limb_colours(PAIR)[0]) + 0.4 * 128
    assert drawn[50, 100] == pytest.approx(expected, abs=1)
    assert (drawn[:30] == 128).all()
    assert (drawn[:, :25] == 128).all()


def test_a_joint_that_is_not_sure_is_hollow_and_its_limb_thin():
    sure = draw_pose(grey(), [[40, 50], [160, 50]], [0.9, 0.9], PAIR)
    unsure = draw_pose(grey(), [[40, 50], [160, 50]], [0.9, 0.1], PAIR)
    colour = np.array(part_colours(PAIR)[1])
    assert (sure[50, 160] == colour).all()
    assert not (unsure[48, 160] == colour).all()
    distance = np.abs(unsure[:, 150:170].astype(int) - colour).max(axis=2)
    assert distance.min() < 40, "the ring has the part's colour, up to its softened edges"
    changed = [(picture[:, 100] != 128).any(axis=1).sum() for picture in (sure, unsure)]
    assert changed[1] < changed[0]


def test_names_with_line_breaks_are_one_line():
    """As a file may be called: a sheet of such pictures ended in an error of the text's layout."""
    broken, blank = (contact_sheet([grey()], [f"a{between}b.jpg"]) for between in "\n ")
    np.testing.assert_array_equal(broken, blank)


@pytest.mark.parametrize("draw", [lambda of: draw_pose(grey(), [[1, 2]], [1], of), lambda of: legend(of, 90)])
@pytest.mark.parametrize("skeleton", ["cpm14", None, ("a", "b")])
def test_the_name_of_a_skeleton_is_none(draw, skeleton):
    with pytest.raises(TypeError, match=r"skeleton: wanted a Skeleton \(cpm_repro.skeleton has CPM14, "):
        draw(skeleton)


def test_joints_without_position_or_outside_are_left_out():
    assert (draw_pose(grey(), np.full((2, 2), np.nan), [1, 1], PAIR) == 128).all()
    one = draw_pose(grey(), [[40, 50], [np.nan, 50]], [1, 1], PAIR)
    assert (one[:, 60:] == 128).all()
    draw_pose(grey(), [[-500, -3000], [1e5, 90]], [1, 1], PAIR)  # far away in both directions: no crash
    assert (draw_poses(grey(), np.zeros((0, 2, 2)), np.zeros((0, 2)), PAIR) == 128).all()


def test_small_images_are_enlarged_and_points_with_them():
    drawn = draw_pose(grey(20, 40), [[9.5, 9.5], [29.5, 9.5]], [1, 1], PAIR, enlarge_to=400)
    assert drawn.shape == (200, 400, 3)
    # pixel centre (9.5 + 0.5) * 10 - 0.5
    ys, xs = np.nonzero((drawn == part_colours(PAIR)[0]).all(axis=2))
    assert (xs.mean(), ys.mean()) == pytest.approx((99.5, 99.5), abs=0.6)
    assert draw_pose(grey(), np.zeros((2, 2)), [1, 1], PAIR, enlarge_to=50).shape == grey().shape


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"keypoints: wanted \(people, 2, 2\)"):
        draw_pose(grey(), np.zeros((3, 2)), [1, 1, 1], PAIR)
    with pytest.raises(ValueError, match="scores"):
        draw_pose(grey(), np.zeros((2, 2)), [1], PAIR)
    with pytest.raises(ValueError, match="image: wanted"):
        draw_pose(np.zeros((4, 4)), np.zeros((2, 2)), [1, 1], PAIR)


def test_the_legend_names_every_part_in_its_colour():
    panel = legend(CPM14, 400)
    assert panel.shape[0] == 400
    for colour in part_colours(CPM14):
        assert (panel == colour).all(axis=2).any()


def belief(row: int, column: int, height: float = 1.0) -> np.ndarray:
    maps = np.zeros((3, 8, 8), np.float32)
    maps[0, row, column] = height
    maps[1] = 0.0
    maps[2] = 1.0
    return maps


def test_the_grid_has_a_row_per_stage_and_a_column_per_part():
    crop = np.full((64, 64, 3), 90, np.uint8)
    one, three = (belief_grid(crop, [belief(2, 5)] * stages, ["a", "b"], cell=96) for stages in (1, 3))
    assert three.shape[1] == one.shape[1]
    assert three.shape[0] - one.shape[0] == 2 * (96 + 3)
    narrow = belief_grid(crop, [belief(2, 5)[:2]], ["a", "b"], cell=96)  # without background
    assert one.shape[1] - narrow.shape[1] == 96 + 3


def test_the_brightest_place_of_a_cell_is_the_peak():
    sheet = belief_grid(np.zeros((64, 64, 3), np.uint8), [belief(2, 5)], ["a", "b"], cell=160)
    size = 16
    top = 3 * size
    left = int(np.flatnonzero((sheet[top] != sheet[0, 0]).any(axis=1))[0])
    cell = sheet[top : top + 160, left : left + 160].astype(int)
    hot = np.argwhere((cell[..., 2] > 200) & (cell[..., 0] < 200))  # the hot end of inferno is red and yellow
    assert hot.mean(axis=0) == pytest.approx([2.5 * 20 - 0.5, 5.5 * 20 - 0.5], abs=4)


def test_the_ring_is_around_the_peak_and_the_background_has_its_own_scale():
    sheet = belief_grid(np.zeros((64, 64, 3), np.uint8), [0.1 * belief(2, 5)], ["a", "b"], cell=160)
    size = 16
    left = int(np.flatnonzero((sheet[3 * size] != sheet[0, 0]).any(axis=1))[0])
    part = sheet[3 * size : 3 * size + 120, left : left + 160].astype(int)  # above the number
    ring = np.argwhere((part > 225).all(axis=2))
    assert (ring.min(axis=0) + ring.max(axis=0)) / 2 == pytest.approx([2.5 * 20 - 0.5, 5.5 * 20 - 0.5], abs=1)
    last = left + 2 * (160 + 3)
    low, high = (
        belief_grid(np.zeros((64, 64, 3), np.uint8), [maps], ["a", "b"], cell=160)[3 * size + 80, last + 80]
        for maps in (np.stack([0.1 * belief(2, 5)[0]] * 2 + [np.full((8, 8), value)]) for value in (0.5, 1.0))
    )
    assert low.astype(int).sum() < high.astype(int).sum() - 100  # by that of the parts both would be the top


def test_a_grid_of_nothing_known_is_still_a_picture():
    maps = np.full((3, 8, 8), np.nan, np.float32)
    assert belief_grid(grey(64, 32), [maps], ["a", "b"]).dtype == np.uint8
    assert belief_grid(grey(), [np.zeros((15, 46, 46))] * 6, CPM14.parts).shape[1] < 2600


def test_maps_that_do_not_fit_the_names_are_refused():
    with pytest.raises(ValueError, match="wanted"):
        belief_grid(grey(), [belief(0, 0)], ["a"])
    with pytest.raises(ValueError, match="at least one stage"):
        belief_grid(grey(), [], ["a"])


def test_a_sheet_holds_all_pictures_at_one_height():
    pictures = [
        np.full((h, w, 3), c, np.uint8) for h, w, c in ((50, 100, 40), (200, 100, 120), (30, 30, 220))
    ]
    sheet = contact_sheet(
        pictures, ["one", "two", "a label much too long for its narrow picture"], height=120
    )
    for colour, width in ((40, 240), (120, 60), (220, 120)):
        found = (sheet == colour).all(axis=2)
        assert found.sum() == pytest.approx(120 * width, rel=0.02)
    with pytest.raises(ValueError, match="as many as labels"):
        contact_sheet(pictures, ["one"])


def records(validated: bool = True) -> list[dict]:
    train = [{"kind": "train", "iteration": i, "loss": [100 / i, 80 / i]} for i in range(1, 60)]
    scored = [{"kind": "validation", "iteration": i, "pck": [i, i + 5.0]} for i in (20, 40)]
    return train + scored * validated


@pytest.mark.parametrize("validated", [True, False])
def test_curves_are_written_as_png_and_svg(tmp_path, validated):
    png, svg = curves(records(validated), tmp_path / "curves.png")
    assert cv2.imread(str(png)).shape[0] > 400
    text = svg.read_text()
    ElementTree.fromstring(text)
    first = svg.read_bytes()
    curves(records(validated), tmp_path / "curves.png")
    assert svg.read_bytes() == first, "the same curves give the same file"


@pytest.mark.parametrize("given", ["rate_0.5", "rate_0.5.png", "rate_0.5.svg"])
def test_dots_in_a_name_stay(tmp_path, given):
    """``rate_0.5`` and ``rate_0.25`` were one file, ``rate_0``."""
    assert curves(records(), tmp_path / given) == (tmp_path / "rate_0.5.png", tmp_path / "rate_0.5.svg")


def test_curves_of_nothing(tmp_path):
    with pytest.raises(UserError, match="no training record"):
        curves([json.loads('{"kind": "validation", "iteration": 1, "pck": [1]}')], tmp_path / "c.png")
    curves(records()[:1], tmp_path / "one.png")


def test_pictures_come_back_as_saved(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    save_png(tmp_path / "deep" / "a.png", image)
    assert (cv2.imread(str(tmp_path / "deep" / "a.png")) == image).all()
    save_jpg(tmp_path / "a.jpg", grey())
    assert cv2.imread(str(tmp_path / "a.jpg")).shape == grey().shape
    with pytest.raises(ValueError, match="wanted"):
        save_png(tmp_path / "b.png", np.zeros((0, 4, 3), np.uint8))
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailure, match="cannot write"):
        save_png(tmp_path / "file" / "c.png", image)


def test_figures_of_two_threads_leave_matplotlib_its_style():
    """The second thread found the first one's style, and put that back."""
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams)
    inside, left = threading.Event(), threading.Event()

    def draw() -> None:
        with figure_of((2, 1), 1):
            inside.set()
            left.wait(10)

    second = threading.Thread(target=draw)
    try:
        with figure_of((2, 1), 1):
            second.start()
            inside.wait(0.5)  # in vain: its turn comes when this figure is done
    finally:
        left.set()
        second.join()
    changed = {key for key, value in before.items() if matplotlib.rcParams[key] != value}
    matplotlib.rcParams.update(before)
    assert not changed
