"""Training on people's own data: what is refused before any work, and an object of one part."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest

from cpm_repro.cli import main
from cpm_repro.data.annotations import DataWarning


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_pairs(folder, rows, skeleton='parts = ["a", "b"]\ntorso = ["a", "b"]\n'):
    """A table of two parts in the folder ``pairs``, with a picture for every row but those called gone."""
    place = folder / "pairs"
    place.mkdir()
    (place / "pairs.csv").write_text("\n".join(["image,a_x,a_y,b_x,b_y,c_x,c_y,split", *rows]) + "\n")
    (place / "skeleton.toml").write_text(skeleton)
    for row in rows:
        if not row.startswith("gone"):
            cv2.imwrite(str(place / row.split(",")[0]), np.full((64, 64, 3), 90, np.uint8))


def train(data, parts, *options):
    return main(
        ["train", "--data", data, "--parts", str(parts), "--batch", "2", "--iterations", "2"]
        + ["--width", "0.1", "--out", "run", *options]
    )


def test_a_small_table_is_told_which_batch_it_has(folder, capsys):
    write_pairs(folder, [f"{n}.png,10,10,50,50,,,train" for n in range(7)] + ["v.png,10,10,50,50,,,val"])
    assert main(["train", "--data", "pairs", "--parts", "2", "--iterations", "2", "--out", "run"]) == 2
    assert "one batch of 16 people, got 7: as many or fewer are asked for with `cpm train --batch`" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("val", "words"),
    [
        (
            "v.png,10,10,,,20,20,val",
            "nobody of the 1 held out can be scored: wanted somebody with both a and b",
        ),
        ("v.png,10,10,10,10,50,20,val", "nobody of the 1 held out can be scored"),
        ("gone.png,10,10,50,50,,,val", "wanted an image that can be read, got 1 that cannot"),
    ],
)
def test_nobody_to_score_is_said_before_the_first_update(folder, capsys, val, words):
    """The run went on to its end, or to its first validation, and left no scores and no best checkpoint."""
    skeleton = 'parts = ["a", "b", "c"]\ntorso = ["a", "b"]\n'
    write_pairs(folder, [f"{n}.png,10,10,50,50,,,train" for n in range(4)] + [val], skeleton)
    assert train("pairs", 3) == 2
    assert words in capsys.readouterr().err
    assert not (folder / "run").exists()


def test_training_starts_from_a_run_folder_too(folder, capsys):
    """The line on a wrong path asks for "a run folder or weight file"; the folder was refused."""
    write_pairs(folder, [f"{n}.png,10,10,50,50,,,train" for n in range(4)] + ["v.png,10,10,50,50,,,val"])
    assert train("pairs", 2) == 0
    assert train("pairs", 2, "--out", "second", "--weights", "run") == 0
    assert "weights from run/checkpoints/best.pt: loaded" in capsys.readouterr().out


def test_people_of_a_weighted_mix_are_counted_once(folder, capsys):
    """Their number was that of the samples, among which some come again and again."""
    write_pairs(folder, [f"{n}.png,10,10,50,50,,,train" for n in range(4)] + ["v.png,10,10,50,50,,,val"])
    shutil.copytree("pairs", "more")
    assert train("pairs@3+more@1", 2) == 0
    assert "8 people to train on in 16 samples by their weights, 2 held out" in capsys.readouterr().out


def test_one_scored_person_behind_others_is_enough(folder, capsys):
    rows = [f"{n}.png,10,10,50,50,,,train" for n in range(4)]
    rows += ["gone.png,10,10,50,50,,,val", "v.png,10,10,,,20,20,val", "w.png,10,10,50,50,,,val"]
    write_pairs(folder, rows, 'parts = ["a", "b", "c"]\ntorso = ["a", "b"]\n')
    assert train("pairs", 3) == 0
    assert "1 people, 2 joints" in capsys.readouterr().out


def test_an_object_of_one_part_is_trained_scored_and_exported(folder, capsys):
    """ "Any number of key points" began at two: everybody was refused, with a box and without."""
    place = folder / "balls"
    place.mkdir()
    images, people = [], []
    for n in range(20):
        cv2.imwrite(str(place / f"{n}.png"), np.full((64, 64, 3), 90, np.uint8))
        images.append({"id": n, "file_name": f"{n}.png", "width": 64, "height": 64})
        people.append({"id": n, "image_id": n, "keypoints": [30, 32, 2], "bbox": [20, 22, 20, 20]})
    category = {"id": 1, "name": "ball", "keypoints": ["middle"]}
    content = {"images": images, "annotations": people, "categories": [category]}
    (place / "balls.json").write_text(json.dumps(content))
    assert train("balls", 1) == 0
    assert main(["eval", "--weights", "run", "--out", "scores"]) == 0
    assert "2 people, 2 joints" in capsys.readouterr().out
    scores = json.loads((folder / "scores" / "scores.json").read_text())
    assert len(scores) == 3  # stages
    # The file that it wrote has no torso to divide by, and gives the printed score again.
    assert main(["eval", "--predictions", "scores/predictions.npz", "--out", "again"]) == 0
    again = json.loads((folder / "again" / "scores.json").read_text())
    for name in ("rule", "people", "joints", "total"):
        assert again[name] == scores[-1][name]
    assert main(["export", "run", "balls.pt2", "--peaks"]) == 0


def write_scales(folder, scales, held_out=("0.2",)):
    """People to train on, with these scales, and those held out."""
    place = folder / "pairs"
    place.mkdir()
    rows = [f"{n}.png,10,10,50,50,30,30,{scale},train" for n, scale in enumerate(scales)]
    rows += [f"v{n}.png,10,10,50,50,30,30,{scale},val" for n, scale in enumerate(held_out)]
    (place / "pairs.csv").write_text(
        "\n".join(["image,a_x,a_y,b_x,b_y,center_x,center_y,scale,split", *rows])
    )
    (place / "skeleton.toml").write_text('parts = ["a", "b"]\ntorso = ["a", "b"]\n')
    for row in rows:
        cv2.imwrite(str(place / row.split(",")[0]), np.full((64, 64, 3), 90, np.uint8))


EXACT = ["--set", "augment.method=exact", "--set", "augment.target_dist=0.4"]


@pytest.mark.parametrize(("scale", "words"), [("", "got nan"), ("0.0005", "wanted sides of 1 to 20000")])
def test_somebody_whom_the_crop_refuses_gives_way(folder, scale, words):
    """One person without a scale among thousands ended the run when his turn came."""
    write_scales(folder, [scale] + ["0.2"] * 5)
    with pytest.warns(DataWarning, match=words):
        assert train("pairs", 2, *EXACT) == 0


def test_nobody_with_a_scale_is_refused_before_any_work(folder, capsys):
    write_scales(folder, [""] * 6)
    assert train("pairs", 2, *EXACT) == 2
    assert "exact expects a scale (person height / 200 px), which none of the first 6 has" in (
        capsys.readouterr().err
    )
    assert not (folder / "run").exists()


@pytest.mark.filterwarnings("error::cpm_repro.data.annotations.DataWarning")
def test_nobody_with_a_scale_is_one_line_where_samples_are_drawn_and_scored(folder, capsys):
    """Everybody was decoded and named in a line of its own."""
    write_scales(folder, ["0.2"] * 20)
    assert train("pairs", 2, *EXACT) == 0
    shutil.rmtree("pairs")
    write_scales(folder, [""] * 40, [""] * 3)
    for command, seen in (
        (["data", "show", "pairs", *EXACT], 40),
        (["eval", "--weights", "run", "--data", "pairs"], 3),
    ):
        assert main(command) == 2
        assert f"which none of the first {seen} has" in capsys.readouterr().err


def test_what_the_two_ways_of_scoring_write_names_its_people(folder, capsys):
    """By training's crop they had no names: their worst could not be drawn, nor another order be seen."""
    write_pairs(folder, [f"{n}.png,10,10,50,50,,,{'train' if n < 4 else 'val'}" for n in range(8)])
    assert train("pairs", 2) == 0
    known = ["eval", "--weights", "run"]
    assert (
        main([*known, "--out", "crop"]) == main([*known, "--procedure", "release", "--out", "release"]) == 0
    )
    assert np.load("crop/predictions.npz")["image"].tolist() == [f"pairs/{n}.png#1" for n in range(4, 8)]
    again = ["eval", "--predictions", "crop/predictions.npz", "--compare", "release/predictions.npz"]
    assert main([*again, "--out", "again", "--images", "pairs"]) == 0
    drawn = (folder / "again" / "failures.png").exists()
    assert drawn != ("nobody has a miss" in capsys.readouterr().out)
