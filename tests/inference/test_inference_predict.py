"""``cpm predict`` on all kinds of things: what it writes, what it says, and how it goes on after bad ones."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from videos import cut, make_video, read_all

from cpm_repro.cli import main
from cpm_repro.data import open_dataset, read_coco
from cpm_repro.inference.estimator import PoseEstimator
from cpm_repro.inference.weights import BUNDLED
from cpm_repro.skeleton import CPM14


def picture(seed=0, height=90, width=70):
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def predict(run_folder, tmp_path, capsys):
    """Runs `cpm predict` with the little network; returns exit code, what was said, and the folder."""

    def run(*arguments):
        out = tmp_path / "out"
        code = main(["predict", "--weights", str(run_folder), "--out", str(out), *map(str, arguments)])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said, out

    return run


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def photographs(tmp_path):
    """Three pictures in a folder, one of them in a folder inside."""
    for index, name in enumerate(("a.png", "b.jpg", "in/c.png")):
        path = tmp_path / "photographs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture(index))
    return tmp_path / "photographs"


def test_a_folder_in_every_layout(predict, photographs, run_folder):
    code, said, out = predict(photographs, "--format", "json", "coco", "openpose", "csv", "--maps")
    assert code == 0
    assert "2 images done" in said.out
    assert files(out) == sorted(
        ["predictions/coco.json", "predictions/keypoints.csv"]
        + [f"predictions/{name}" for stem in "ab" for name in (f"{stem}.json", f"{stem}_maps.npz")]
        + [f"predictions/openpose/{stem}_keypoints.json" for stem in "ab"]
        + [f"visualizations/{name}" for stem in "ab" for name in (f"{stem}.png", f"{stem}_beliefs.png")]
    )
    (person,) = PoseEstimator(run_folder)(photographs / "a.png", keep_maps=True)
    ours = json.loads((out / "predictions/a.json").read_text())
    got = np.array([(point["x"], point["y"]) for point in ours["people"][0]["keypoints"]])
    assert np.abs(got - person.keypoints).max() <= 0.005 + 1e-9
    assert [point["truncated"] for point in ours["people"][0]["keypoints"]] == person.truncated.tolist()
    rows = list(csv.DictReader((out / "predictions/keypoints.csv").open()))
    assert len(rows) == 2 * 14
    assert [row["part"] for row in rows[:14]] == list(CPM14.parts)
    assert float(rows[3]["x"]) == got[3, 0]
    assert rows[0]["frame"] == ""
    openpose = json.loads((out / "predictions/openpose/a_keypoints.json").read_text())
    points = np.array(openpose["people"][0]["pose_keypoints_2d"]).reshape(15, 3)
    np.testing.assert_array_equal(points[:14, :2], got)
    assert points[14].tolist() == [0, 0, 0]
    assert openpose["part_names"][14] == "chest"
    with np.load(out / "predictions/a_maps.npz") as maps:
        np.testing.assert_allclose(maps["stage3"][0], person.belief_maps[2], atol=1e-6)
        assert maps["stage1"].shape == (1, 15, 8, 8)
        assert maps["names"].tolist() == list(CPM14.parts)
        # A cell's middle, brought to the image: the middle of the crop is the person's centre.
        middle = maps["crop_to_image"][0] @ np.array([31.5, 31.5, 1])
        assert middle == pytest.approx(person.center)
        assert maps["cell"] == 8


def test_our_coco_file_is_read_by_our_own_reader(predict, photographs):
    """A prediction can be corrected by hand and trained on: names, limbs, boxes and points come back."""
    boxes = ["--box", 5, 5, 60, 80, "--box", 0, 0, 30, 30]
    _, _, out = predict(photographs / "a.png", photographs / "b.jpg", "--format", "coco", "json", *boxes)
    read = read_coco(out / "predictions/coco.json")
    assert read.skeleton.parts == CPM14.parts
    assert read.skeleton.limbs == CPM14.limbs
    assert [len(image.people) for image in read.images] == [2, 2]
    assert read.problems == ()
    ours = json.loads((out / "predictions/b.json").read_text())
    person = read.images[1].people[0]
    assert person.joints[4].tolist() == [ours["people"][0]["keypoints"][4][axis] for axis in "xy"]
    assert person.center.tolist() == ours["people"][0]["center"]


def test_predictions_made_beside_their_pictures_are_a_data_set(predict, photographs, monkeypatch):
    """As `docs/predictions.md` tells: the file is moved to the folder in which `cpm predict` ran."""
    monkeypatch.chdir(photographs.parent)
    _, _, out = predict(photographs.name, "--format", "coco", "--no-pictures")
    (out / "predictions/coco.json").rename("coco.json")
    train, held_out = (open_dataset("coco.json", split) for split in ("train", "val"))
    assert [people[0].id for people in (held_out, train)] == [
        "coco/photographs/a.png#1",
        "coco/photographs/b.jpg#1",
    ]


def test_a_video_keeps_rate_size_and_frames(predict, tmp_path):
    video = make_video(tmp_path / "clip.avi", 12, rate=29.97)
    code, said, out = predict(video, "--format", "json", "coco", "csv", "openpose", "--smooth")
    assert code == 0
    assert "12 frames" in said.out
    frames, rate = read_all(out / "visualizations/clip.mp4")
    assert len(frames) == 12
    assert frames[0].shape == (64, 96, 3)
    assert rate == pytest.approx(29.97, abs=1e-3)
    ours = json.loads((out / "predictions/clip.json").read_text())
    assert ours["frames_per_second"] == pytest.approx(29.97)
    assert [frame["frame"] for frame in ours["frames"]] == list(range(12))
    assert ours["frames"][3]["time"] == pytest.approx(3 / 29.97, abs=1e-4)
    coco = json.loads((out / "predictions/coco.json").read_text())
    assert [image["frame"] for image in coco["images"]] == list(range(12))
    assert len({annotation["image_id"] for annotation in coco["annotations"]}) == 12
    rows = list(csv.DictReader((out / "predictions/keypoints.csv").open()))
    assert [int(row["frame"]) for row in rows[::14]] == list(range(12))
    assert (out / "predictions/openpose/clip_000000000011_keypoints.json").exists()
    assert not list((out / "visualizations").glob("*beliefs*"))


def test_grids_and_maps_of_a_video_on_request(predict, tmp_path):
    _, _, out = predict(
        make_video(tmp_path / "clip.avi", 9), "--frames", 2, "--grid", "--maps", "--no-pictures"
    )
    assert files(out) == [
        "predictions/clip.json",
        "predictions/clip/000000_maps.npz",
        "predictions/clip/000001_maps.npz",
        "visualizations/clip/000000_beliefs.png",
        "visualizations/clip/000001_beliefs.png",
    ]


KINDS = ("jpg", "png", "webp", "bmp", "tif")


def bad_files(folder):
    """One file of each kind of trouble."""
    good = picture(1, 120, 160)
    for kind in KINDS:
        data = cv2.imencode(f".{kind}", good)[1].tobytes()
        (folder / f"half_{kind}.{kind}").write_bytes(data[: len(data) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("<html>")
    png = bytearray(cv2.imencode(".png", good)[1].tobytes())
    png[16:24] = (20_000).to_bytes(4, "big") * 2
    (folder / "huge.png").write_bytes(png)
    (folder / "text.mp4").write_text("<html>")
    cut(make_video(folder / "whole.avi", 30), folder / "cut.avi", 0.6)
    halves = [f"half_{kind}.{kind}" for kind in KINDS]
    return [*halves, "empty.jpg", "text.jpg", "huge.png", "text.mp4", "cut.avi"]


def test_every_bad_file_is_a_line_and_the_rest_goes_on(predict, tmp_path):
    bad = bad_files(tmp_path)
    cv2.imwrite(str(tmp_path / "good.png"), picture())
    words = [tmp_path / name for name in [*bad[:4], "good.png", *bad[4:], "whole.avi"]]
    code, said, out = predict(*words, "missing.jpg", "99")
    assert code == 2
    lines = [line for line in said.err.splitlines() if line.startswith("cpm predict: ")]
    for name in [*bad, "missing.jpg", "camera 99"]:
        assert sum(name in line for line in lines) == 1, (name, lines)
    assert f"error: {len(bad) + 2} could not be used" in lines[-1]
    assert "20000 x 20000" in said.err
    assert "of 30 frames could be read, and were kept" in said.err
    assert files(out / "predictions") == ["cut.json", "good.json", "whole.json"]
    assert files(out / "visualizations") == ["cut.mp4", "good.png", "good_beliefs.png", "whole.mp4"]


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_nobody_else_says_a_line_about_a_damaged_image(run_folder, tmp_path, kind):
    """The decoders' own lines go past Python: they are looked for in another process."""
    data = bytearray(cv2.imencode(f".{kind}", picture(1, 120, 160))[1].tobytes())
    (tmp_path / f"half.{kind}").write_bytes(data[: len(data) // 2])
    code = "import sys; from cpm_repro.cli import main; sys.exit(main())"
    arguments = ["predict", tmp_path / f"half.{kind}", "--weights", run_folder, "--out", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"cpm predict: error: {tmp_path / f'half.{kind}'}: expected an image")


def test_a_single_bad_thing_is_one_line(predict, tmp_path):
    (tmp_path / "x.jpg").write_text("nothing")
    code, said, out = predict(tmp_path / "x.jpg")
    assert code == 2
    assert said.err.startswith(f"cpm predict: error: {tmp_path / 'x.jpg'}: expected an image")
    assert len(said.err.splitlines()) == 1
    assert not files(out) if out.exists() else True


def test_a_box_outside_one_of_the_images_names_that_image(predict, tmp_path):
    cv2.imwrite(str(tmp_path / "small.png"), picture(0, 40, 40))
    cv2.imwrite(str(tmp_path / "large.png"), picture(0, 200, 200))
    code, said, out = predict(tmp_path / "small.png", tmp_path / "large.png", "--box", 100, 100, 180, 180)
    assert code == 2
    assert "small.png: box: (100.0, 100.0, 180.0, 180.0) lies outside the 40x40 image" in said.err
    assert (out / "predictions/large.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--box", "0", "0", "9", "0"], "x0 < x1 and y0 < y1"),
        (["--center", "9", "9", "--height", "0"], "height: wanted a positive number"),
        (["--height", "9"], "--height goes with --center"),
        (["--box", "0", "0", "9", "9", "--center", "1", "1"], "either --box or --center"),
        (["--format", "cocoa"], "coco"),
        (["--stages", "9"], "stages: .* has 1 to 3, got 9"),
        (["--scales", "0"], "scales: wanted"),
        (["--device", "toaster"], "device toaster"),
        (["--frames", "0"], "frames: wanted at least 1"),
        (["--smooth-cutoff", "0"], "smooth-cutoff: wanted"),
        (["--smooth-cutoff", "0.5"], "--smooth-cutoff goes with --smooth"),
        (["--detector", "no.pt"], "no.pt"),
        (["--whole-image", "--box", "0", "0", "9", "9"], "leave out --box, --center, --detector"),
        (
            ["--box", "0", "0", "9", "9", "--detector", str(BUNDLED)],
            "--detector finds the people: leave out --box",
        ),
        (["--compile", "--device", "cpu"], "compile: wanted a GPU"),
    ],
    ids=str,
)
def test_options_that_make_no_sense(predict, photographs, arguments, words):
    code, said, _ = predict(photographs / "a.png", *arguments)
    assert code == 2
    (line,) = said.err.splitlines()
    assert re.search(words, line)


def kinds_of_image(folder, image):
    """The same picture in the forms that cameras and programs write: (path, largest difference)."""
    from PIL import Image

    def put(name, array):
        assert cv2.imwrite(str(folder / name), array)
        return folder / name

    grey = np.repeat(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None], 3, 2)
    alpha = np.dstack([image, np.full(image.shape[:2], 200, np.uint8)])
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(image[..., ::-1], 1)))
    tag = turned.getexif()
    tag[0x0112] = 6  # the camera was held upright: turn a quarter to the right
    turned.save(folder / "turned.jpg", exif=tag, quality=98)
    Image.fromarray(image[..., ::-1]).convert("CMYK").save(folder / "cmyk.jpg", quality=98)
    return [
        (put("plain.png", image), image, 0),
        (put("sixteen.png", image.astype(np.uint16) * 257), image, 0),
        (put("sixteen.tif", image.astype(np.uint16) * 257), image, 0),
        (put("grey.png", grey[..., 0]), grey, 0),
        (put("alpha.png", alpha), image, 0),
        (folder / "turned.jpg", image, 16),
        (folder / "cmyk.jpg", image, 40),
    ]


def test_images_of_all_kinds_are_read_as_viewers_show_them(run_folder, tmp_path):
    estimator = PoseEstimator(run_folder)
    image = picture(5, 120, 80)
    for path, expected, tolerance in kinds_of_image(tmp_path, image):
        people = estimator(path)
        assert people.image.shape == expected.shape, path.name
        difference = np.abs(people.image.astype(int) - expected)
        assert difference.max() <= tolerance, (path.name, difference.max())
        if not tolerance:
            np.testing.assert_array_equal(people[0].keypoints, estimator(expected)[0].keypoints)


def test_a_picture_of_one_pixel(predict, tmp_path):
    cv2.imwrite(str(tmp_path / "one.png"), np.zeros((1, 1, 3), np.uint8))
    code, _, out = predict(tmp_path / "one.png")
    assert code == 0
    assert json.loads((out / "predictions/one.json").read_text())["width"] == 1


@pytest.mark.parametrize("name", ["photographs", "clip.avi"])
def test_a_place_that_cannot_be_written_is_one_line(run_folder, photographs, tmp_path, capsys, name):
    make_video(tmp_path / "clip.avi", 3)
    (tmp_path / "file").touch()
    arguments = ["--weights", str(run_folder), "--out", str(tmp_path / "file" / "out")]
    assert main(["predict", *arguments, str(photographs.parent / name)]) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert error.startswith("cpm predict: error: cannot write")


def test_a_list_on_standard_input(run_folder, photographs, tmp_path):
    code = "import sys; from cpm_repro.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", "-", "--weights", run_folder, "--out", tmp_path / "out"],
        input=f"{photographs / 'a.png'}\n{photographs / 'in'}\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "out" / "predictions") == ["a.json", "c.json"]


def test_weights_of_another_network(run_folder, photographs, capsys):
    arguments = ["predict", str(photographs), "--weights", str(run_folder), "--arch", "mpii_6stage"]
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "best.pt: wanted weights of mpii_6stage, got those of tiny (conv1_stage1.weight: wanted [128" in line
    )
    assert len(line) < 400


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_an_interrupt_keeps_the_frames_so_far(run_folder, tmp_path):
    """Ctrl-C in the middle of a long video: a whole, shorter video and JSON, and exit code 130."""
    video = make_video(tmp_path / "long.avi", 3000)
    # A test run in the background ignores interrupts, and so would what it starts.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from cpm_repro.cli import main; sys.exit(main())"
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "predict", video, "--weights", run_folder, "--out", out, "--format",
         "json", "csv", "openpose"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(list(out.glob("predictions/openpose/*"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, error = process.communicate(timeout=60)
    assert process.returncode == 130, (said, error)
    frames, _ = read_all(out / "visualizations/long.mp4")
    written = json.loads((out / "predictions/long.json").read_text())["frames"]
    assert 5 <= len(frames) == len(written) < 3000
    assert len(list(csv.DictReader((out / "predictions/keypoints.csv").open()))) == 14 * len(frames)


def test_the_whole_image_is_one_place(predict, photographs):
    code, said, out = predict(photographs / "a.png", "--whole-image", "--no-grid")
    assert code == 0
    assert "assumed: one person in the middle, 80% of the image's longer side\n" in said.out
    (person,) = json.loads((out / "predictions" / "a.json").read_text())["people"]
    assert (person["center"], person["extent"]) == ([34.5, 44.5], 72.0)
    assert person["assumed"] == "one person in the middle, 80% of the image's longer side"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ((), "(give --box X0 Y0 X1 Y1 to say better)"),
        (("--center", "30", "40"), "(give --height to say better)"),
        (("--whole-image",), None),
    ],
)
def test_who_chose_what_is_assumed_is_told_of_no_better_way(predict, photographs, words, hint):
    _, said, _ = predict(photographs / "a.png", *words, "--no-grid", "--no-pictures")
    (line,) = [line for line in said.out.splitlines() if line.startswith("assumed: ")]
    assert line.endswith(hint) if hint else "give" not in line


def test_what_was_done_is_counted_in_words(predict, photographs, tmp_path):
    clip = make_video(tmp_path / "clip.avi", 2)
    for things, words in (
        ([clip], "1 video done:"),
        ([photographs / "a.png", clip], "1 image, 1 video done:"),
    ):
        code, said, out = predict(*things, "--no-grid", "--no-pictures")
        assert code == 0
        assert said.out.splitlines()[-1].startswith(words)
        assert said.out.splitlines()[-1].endswith(f"(cpm viz {out} shows them)")


def test_that_a_box_is_taken_in_several_images_is_said(predict, photographs):
    box = ("--box", 5, 5, 60, 80, "--no-grid", "--no-pictures")
    for things, told in (("a.png",), False), (("a.png", "b.jpg"), True):
        _, said, _ = predict(*(photographs / name for name in things), *box)
        assert ("the same --box was taken in all of them" in said.out) == told


@pytest.mark.parametrize(
    ("options", "pictures"),
    [
        (["--no-pictures"], []),
        (["--no-pictures", "--grid"], ["a_beliefs.png"]),
        (["--no-grid"], ["a.png"]),
        ([], ["a.png", "a_beliefs.png"]),
    ],
    ids=str,
)
def test_no_pictures_are_none(predict, photographs, options, pictures):
    """Of few images the grids were drawn nevertheless."""
    _, said, out = predict(photographs / "a.png", *options)
    assert sorted(path.name for path in (out / "visualizations").glob("*")) == pictures
    assert (f"{out / 'visualizations'}" in said.out) == bool(pictures)
