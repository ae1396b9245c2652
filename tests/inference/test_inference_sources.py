"""What the words after ``cpm predict`` mean."""

import glob
import io
import os
import re
import struct
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from cpm_repro.errors import UserError
from cpm_repro.files import write_json
from cpm_repro.inference.images import read_photograph
from cpm_repro.inference.sources import Sources, find_sources


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.PNG", "clip.MP4", "notes.txt", "sub/c.jpg", "sub/deep/d.jpg", "odd[1].jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def found(*words, stdin=None):
    return [str(source.what) for source in find_sources(words, stdin).found]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("b.jpg", ["b.jpg"]),
        ("notes.txt", ["notes.txt"]),  # a file named by the user is tried, whatever it is called
        (".", ["a.PNG", "b.jpg", "clip.MP4", "odd[1].jpg"]),
        ("sub", ["sub/c.jpg"]),
        ("*.jpg", ["b.jpg", "odd[1].jpg"]),
        ("*", ["a.PNG", "b.jpg", "clip.MP4", "odd[1].jpg"]),
        ("sub/**", ["sub/c.jpg", "sub/deep/d.jpg"]),
        ("**/*.jpg", ["b.jpg", "odd[1].jpg", "sub/c.jpg", "sub/deep/d.jpg"]),
        ("odd[1].jpg", ["odd[1].jpg"]),  # a file of that very name comes before the pattern
        ("0", ["0"]),
    ],
)
def test_words(word, meaning):
    assert found(word) == meaning


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("no.jpg", "no.jpg: no such file, folder or camera"),
        ("empty", "empty: no image or video in this folder"),
        ("*.tif", r"\*.tif: no image or video matches"),
        ("http://x/y.jpg", "addresses are not fetched"),
        ("x" * 3000, "File name too long"),
        ("a\0b", "no such file"),
        ("-1", "no such file"),
        ("12345", "no such file"),
        ("", "an empty name"),
    ],
)
def test_words_that_mean_nothing_are_a_line_and_the_rest_goes_on(word, line):
    sources = find_sources([word, "b.jpg"])
    assert [str(source.what) for source in sources.found] == ["b.jpg"]
    (problem,) = sources.problems
    assert re.search(line, problem)


@pytest.mark.usefixtures("folder")
def test_a_list_on_standard_input():
    assert found("-", "clip.MP4", stdin=io.StringIO("b.jpg\n\nsub\r\nno.jpg\n")) == [
        "b.jpg",
        "sub/c.jpg",
        "clip.MP4",
    ]
    closed = io.StringIO()
    closed.close()
    assert "standard input" in find_sources(["-"], closed).problems[0]


def test_a_file_called_like_a_camera_is_a_file(folder):
    (folder / "0").touch()
    assert find_sources(["0"]).found[0].what == Path("0")
    assert not find_sources(["0"]).found[0].is_video
    assert find_sources(["1"]).found[0].is_video
    assert find_sources(["clip.MP4"]).found[0].is_video


@pytest.mark.usefixtures("folder")
def test_results_of_one_name_get_numbers():
    names = [source.name for source in find_sources(["b.jpg", "b.jpg", "clip.MP4", "3", "b.jpg"]).found]
    assert names == ["b", "b-2", "clip", "camera3", "b-3"]
    assert len({source.name for source in find_sources(["b.jpg"] * 100).found}) == 100


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_nobody_may_read(folder):
    (folder / "sub").chmod(0)
    try:
        assert "Permission denied" in find_sources(["sub"]).problems[0]
    finally:
        (folder / "sub").chmod(0o755)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("word", ["sub/*.jpg", "s*b/*.jpg", "**/*.jpg", "s*b/**"])
def test_a_pattern_says_which_folders_it_could_not_look_into(word, monkeypatch):
    """One that may be entered and not listed: glob finds nothing there and says nothing."""
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK or Path(path).name != "sub")
    sources = find_sources([word])
    assert sources.problems == ["sub: cannot be read: Permission denied"]
    monkeypatch.setattr(glob, "iglob", lambda word, **_: [] if word == "sub/*.jpg" else ["sub"])
    assert find_sources(["sub/*.jpg"]) == Sources([], ["sub: cannot be read: Permission denied"])


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["a.jpg", "a_beliefs.png"], ["a", "a_beliefs-2"]),
        (["a_beliefs.png", "a.jpg"], ["a_beliefs", "a-2"]),
        (["a_beliefs.png", "b_beliefs.png"], ["a_beliefs", "b_beliefs"]),
        (["a.jpg", "a_beliefs_1.png"], ["a", "a_beliefs_1-2"]),
        (["a_beliefs_1.png", "a.jpg", "a.png"], ["a_beliefs_1", "a-2", "a-3"]),
        (["coco.jpg"], ["coco-2"]),
    ],
)
def test_no_result_takes_the_name_of_another_file(words, names, tmp_path):
    """The overlay of one image was written over the belief maps of another."""
    for word in words:
        (tmp_path / word).touch()
    assert [source.name for source in find_sources(tmp_path / word for word in words).found] == names


def test_the_results_of_long_names_are_shortened(tmp_path):
    """File systems take 255 bytes: nothing could be written, and the run was over for all others too."""
    long = "\u5199" * 83  # 249 bytes
    (tmp_path / f"{long}.jpg").touch()
    (tmp_path / f"{long}.png").touch()
    names = [source.name for source in find_sources([tmp_path]).found]
    assert names == [long[:60], f"{long[:60]}-2"]
    write_json(tmp_path / f"{names[1]}_000000000012_keypoints.json", {})
    odd = b"\xff".join([b"a" * 60] * 4)
    assert find_sources([os.fsdecode(bytes(tmp_path) + b"/" + odd)]).found == []
    open(os.path.join(bytes(tmp_path), odd), "w").close()
    (source,) = find_sources([os.fsdecode(bytes(tmp_path) + b"/" + odd)]).found
    assert os.fsencode(source.name) == odd[:180]


def test_a_folder_passes_over_no_picture_without_a_word(tmp_path):
    """What browsers save as .jfif is a JPEG; HEIC, a telephone's, is not read, and then said to be so."""
    (tmp_path / "a.jfif").write_bytes(cv2.imencode(".jpg", np.zeros((5, 6, 3), np.uint8))[1].tobytes())
    (tmp_path / "b.HEIC").write_bytes(struct.pack(">I4s4sI4s", 20, b"ftyp", b"heic", 0, b"mif1") + bytes(99))
    saved, telephone = (source.what for source in find_sources([tmp_path]).found)
    assert read_photograph(saved).shape == (5, 6, 3)
    with pytest.raises(UserError, match=r"b\.HEIC: expected one plain picture, got a HEIC picture, which"):
        read_photograph(telephone)


def test_a_closed_standard_input_is_said(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)  # as after `cpm predict - <&-`
    assert find_sources(["-"]) == Sources([], ["-: standard input is closed"])


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_list_on_standard_input_is_said(text):
    sources = find_sources(["-"], io.StringIO(text))
    assert sources.found == []
    assert sources.problems == ["-: standard input names nothing"]
