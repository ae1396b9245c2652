"""``cpm viz``: pictures of what other commands left."""

import io
import json
import os
import re
import struct
import tracemalloc
import zipfile
import zlib

import cv2
import numpy as np
import pytest

from cpm_repro.cli import main
from cpm_repro.inference.outputs import Outputs, Wanted
from cpm_repro.inference.result import People, Person
from cpm_repro.skeleton import CPM14


@pytest.fixture
def results(tmp_path):
    """What cpm predict leaves of one photograph with two people, one part of them out of the image."""
    rng = np.random.default_rng(0)
    photograph = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "x y.png"), photograph)
    people = []
    for place in (20.0, 55.0):
        scores = np.full(14, 0.8, np.float32)
        scores[4] = 0.1
        people.append(
            Person(
                rng.uniform(-8, 8, (14, 2)) + (place, 30), scores, CPM14.parts, (place, 30.0), 40.0,
                crop=photograph[:40, :40], belief_maps=(rng.random((15, 5, 5), np.float32),) * 2,
                crop_to_image=np.eye(2, 3),
            )
        )  # fmt: skip
    with Outputs(Wanted(tmp_path / "out", ("json", "coco"), grids=True, maps=True), CPM14) as outputs:
        outputs.image(People(people, photograph, CPM14, str(tmp_path / "x y.png")), "x y")
    return tmp_path


def test_key_points_on_their_photograph_are_the_overlay(results, capsys):
    assert main(["viz", str(results / "out/predictions/x y.json"), "--out", str(results / "viz")]) == 0
    assert capsys.readouterr().out.strip() == str(results / "viz" / "x y.png")
    drawn = cv2.imread(str(results / "viz" / "x y.png")).astype(int)
    overlay = cv2.imread(str(results / "out/visualizations/x y.png"))
    assert drawn.shape == overlay.shape
    assert np.abs(drawn - overlay).mean() < 0.5  # the JSON has 1/100 px


def test_photographs_that_were_moved(results, capsys):
    (results / "moved").mkdir()
    (results / "x y.png").rename(results / "moved" / "x y.png")
    words = ["viz", str(results / "out/predictions/x y.json"), "--out", str(results / "viz")]
    assert main(words) == 2
    assert "--images" in capsys.readouterr().err
    assert main([*words, "--images", str(results / "moved")]) == 0


def test_belief_maps_are_the_grids_that_predict_draws(results):
    assert main(["viz", str(results / "out/predictions/x y_maps.npz"), "--out", str(results / "viz")]) == 0
    for name, of in (("x y_maps.png", "x y_beliefs.png"), ("x y_maps_1.png", "x y_beliefs_1.png")):
        drawn = cv2.imread(str(results / "viz" / name))
        np.testing.assert_array_equal(drawn, cv2.imread(str(results / "out/visualizations" / of)))


def test_the_page_shows_all_that_is_there(results, capsys):
    (results / "out/predictions/clip.json").write_text('{"video": "clip.mp4", "frames": []}')
    (results / "out/visualizations/clip.mp4").touch()
    assert main(["viz", str(results / "out")]) == 0
    page = (results / "out/report.html").read_text()
    assert capsys.readouterr().out.strip() == str(results / "out/report.html")
    for link in ("visualizations/x%20y.png", "x%20y_beliefs.png", "x%20y_beliefs_1.png", "clip.mp4"):
        assert f'{link}"' in page
    assert page.count("<table>") == 2
    assert page.count("truncated?") == 2
    assert page.count("&#9675;") == 2  # hollow, as they are drawn
    assert 'rgb(255,0,0)">&#9679;</span> head<td>' in page
    assert "coco" not in page


def test_the_page_shows_the_belief_maps_of_a_name_with_brackets(results):
    """A pattern's signs in a file's name are not meant as such."""
    for path in [*(results / "out/predictions").glob("x y*"), *(results / "out/visualizations").glob("x y*")]:
        path.rename(path.with_name(path.name.replace("x y", "x [1]")))
    assert main(["viz", str(results / "out")]) == 0
    page = (results / "out/report.html").read_text()
    for link in ("x%20%5B1%5D.png", "x%20%5B1%5D_beliefs.png", "x%20%5B1%5D_beliefs_1.png"):
        assert f'{link}"' in page


def test_the_page_of_names_that_are_no_utf_8(results):
    """As of files from an old disk; the page ended in a traceback."""
    for path in [*(results / "out/predictions").glob("x y*"), *(results / "out/visualizations").glob("x y*")]:
        path.rename(os.fsdecode(os.fsencode(path).replace(b"x y", b"x\xff")))
    assert main(["viz", str(results / "out")]) == 0
    assert 'visualizations/x%FF.png"' in (results / "out/report.html").read_text()


def test_the_page_shows_each_persons_belief_maps_beside_his_parts(results):
    """Not those of a second person whom an earlier run found in the picture."""
    path = results / "out/predictions/x y.json"
    content = json.loads(path.read_text())
    assert main(["viz", str(results / "out")]) == 0
    marks = re.findall(r"<table>|x%20y_beliefs(?:_\d)?\.png", (results / "out/report.html").read_text())
    assert marks == ["<table>", "x%20y_beliefs.png", "<table>", "x%20y_beliefs_1.png"]
    path.write_text(json.dumps({**content, "people": content["people"][:1]}))
    assert main(["viz", str(results / "out")]) == 0
    assert "x%20y_beliefs_1.png" not in (results / "out/report.html").read_text()


def test_a_picture_that_no_memory_holds_is_one_line_and_the_rest_is_drawn(results, capsys):
    path, good = results / "out/predictions/x y_maps.npz", results / "out/predictions/x y.json"
    with np.load(path) as file:
        arrays = dict(file)
    tall = results / "tall.npz"
    np.savez_compressed(tall, **(arrays | {"crops": np.zeros((1, 4_000_000, 1, 3), np.uint8)}))
    assert main(["viz", str(tall), str(good), "--out", str(results / "viz")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"the picture of {tall} does not fit into memory (tried to allocate " in line
    assert (results / "viz" / "x y.png").exists()


def test_curves_of_a_run(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    lines = [
        {"kind": "train", "iteration": index, "loss": [2.0 / index, 1.0 / index]} for index in range(1, 9)
    ]
    cut_off = '{"kind": "tr'
    (run / "metrics.jsonl").write_text("\n".join([*map(json.dumps, lines), cut_off]))
    assert main(["viz", str(run), "--out", str(tmp_path / "viz")]) == 0
    assert cv2.imread(str(tmp_path / "viz" / "run_curves.png")) is not None
    (run / "metrics.jsonl").write_text("nonsense\n" + json.dumps(lines[0]))
    assert main(["viz", str(run), "--out", str(tmp_path / "viz")]) == 2


@pytest.mark.parametrize(
    "line", ['{"kind": "train"}', '{"kind": "train", "loss": 7, "iteration": 1}', "[" * 200_000]
)
def test_curves_of_other_records_are_one_line(tmp_path, capsys, line):
    (tmp_path / "metrics.jsonl").write_text(f"{line}\n{line}\n")
    assert main(["viz", str(tmp_path), "--out", str(tmp_path / "viz")]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "metrics.jsonl" in said


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("none.json", None), ("a.json", b"{"), ("b.json", b"[]"), ("c.json", b'{"people": [{}]}'),
        ("d.npz", b"PK"), ("e.npz", b""), ("f.txt", b"x"),
        ("g.json", b'{"frames": []}'), ("h.json", b"\xff\xfe"),
        ("i.json", b"[" * 200_000), ("j.json", b"7"), ("k.json", b'{"people": [[]]}'),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_one_line_and_the_rest_is_drawn(results, capsys, name, content):
    if content is not None:
        (results / name).write_bytes(content)
    good = results / "out/predictions/x y.json"
    assert main(["viz", str(results / name), str(good), "--out", str(results / "viz")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line
    assert (results / "viz" / "x y.png").exists()


def test_damaged_maps_and_key_points(results, capsys):
    path = results / "out/predictions/x y_maps.npz"
    with np.load(path) as file:
        arrays = dict(file)
    for change in ({"stage2": np.zeros(3)}, {"names": np.array(["a"])}, {"crops": np.zeros((2, 3))}):
        np.savez(path, **(arrays | change))
        assert main(["viz", str(path), "--out", str(results / "viz")]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    limbs = json.dumps({**json.loads((results / "out/predictions/x y.json").read_text()), "limbs": [[0, 99]]})
    (results / "out/predictions/x y.json").write_text(limbs)
    assert main(["viz", str(results / "out/predictions/x y.json"), "--out", str(results / "viz")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "x y.json: expected" in line
    for wrong in ('{"people": 3}', '{"people": [{"keypoints": [{"name": "a"}]}]}', "[1]", "{", "[" * 200_000):
        (results / "out/predictions/x y.json").write_text(wrong)
        assert main(["viz", str(results / "out")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "x y.json: expected" in line


def test_maps_that_claim_more_than_they_hold_are_not_allocated(results, capsys):
    path = results / "out/predictions/x y_maps.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("crops.npy", npy_header((1 << 36,)) + bytes(64))
    tracemalloc.start()
    assert main(["viz", str(path), "--out", str(results / "viz")]) == 2
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
    assert "claims" in capsys.readouterr().err


def npy_header(shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def test_a_photograph_that_claims_endless_pixels_is_not_decoded(results, capsys):
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (results / "x y.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    assert main(["viz", str(results / "out/predictions/x y.json"), "--out", str(results / "viz")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected at most 100000000 pixels, got 30000 x 30000" in line
    assert "--images" in line


def test_a_photograph_is_turned_as_predict_turned_it(results):
    upright = cv2.imencode(".jpg", np.zeros((60, 80, 3), np.uint8))[1].tobytes()
    tag = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + tag
    turned = upright[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + upright[2:]
    (results / "moved").mkdir()
    (results / "moved" / "x y.png").write_bytes(turned)
    key_points = results / "out/predictions/x y.json"
    words = ["viz", str(key_points), "--out", str(results / "viz"), "--images", str(results / "moved")]
    assert main(words) == 0
    height, width = cv2.imread(str(results / "viz" / "x y.png")).shape[:2]
    assert height > width


def test_pictures_that_cannot_be_written_are_exit_code_1(results, capsys):
    (results / "file").touch()
    words = ["viz", str(results / "out/predictions/x y.json"), "--out", str(results / "file" / "viz")]
    assert main(words) == 1
    assert "cannot write" in capsys.readouterr().err
