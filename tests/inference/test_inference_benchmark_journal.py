"""The release's procedure where it was cut off: what it goes on with, and whose results it refuses."""

import json
import shutil

import scipy.io
from random_networks import random_tiny
from release_data import run
from safetensors.torch import save_file

from cpm_repro.inference import benchmark
from cpm_repro.inference.procedure import BenchmarkProcedure


def test_going_on_after_an_interruption(weights, lsp, tmp_path, capsys, monkeypatch):
    folder, _ = lsp
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run("--weights", weights, "--arch", "tiny", "--data", folder, "--out", whole)
    calls = []
    once = BenchmarkProcedure.__call__

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return once(self, *arguments)

    monkeypatch.setattr(BenchmarkProcedure, "__call__", interrupted)
    assert run("--weights", weights, "--arch", "tiny", "--data", folder, "--out", cut) == 130
    assert "2 of 4 people are kept" in capsys.readouterr().err
    with (cut / benchmark.JOURNAL).open("a") as file:
        file.write('{"index": 2, "keypo')  # as a killed process leaves it
    assert run("--weights", weights, "--arch", "tiny", "--data", folder, "--out", cut) == 0
    assert "2 of 4 people are done" in capsys.readouterr().out
    assert len(calls) == 3 + 2
    for name in ("predictions.json", "scores.json", benchmark.JOURNAL):
        assert (cut / name).read_text() == (whole / name).read_text()


def test_results_of_another_network_are_not_mixed_in(weights, lsp, tmp_path, capsys):
    folder, _ = lsp
    run("--weights", weights, "--arch", "tiny", "--data", folder, "--out", tmp_path, "--first", "1")
    other = tmp_path / "other.safetensors"
    save_file(random_tiny(2).state_dict(), other)
    assert run("--weights", other, "--arch", "tiny", "--data", folder, "--out", tmp_path, "--first", "1") == 2
    assert "holds results for another weights" in capsys.readouterr().err
    assert run("--weights", weights, "--arch", "tiny", "--data", folder, "--out", tmp_path) == 2
    assert "another people (1, now 4)" in capsys.readouterr().err
    (tmp_path / benchmark.JOURNAL).write_text("nonsense\n")
    assert run("--weights", weights, "--arch", "tiny", "--data", folder, "--out", tmp_path) == 2
    assert "wanted the results of an earlier run" in capsys.readouterr().err


def test_a_journal_of_other_results_is_refused(weights, lsp, tmp_path, capsys):
    """As a damaged disk or another program leaves it: no traceback, and nothing of it taken for a result."""
    known = ["--weights", weights, "--arch", "tiny", "--data", lsp[0], "--first", "1", "--out", tmp_path]
    assert run(*known) == 0
    journal = tmp_path / benchmark.JOURNAL
    head, line = journal.read_text().splitlines()
    row = json.loads(line)
    wrong = [
        {"index": 0},
        {**row, "keypoints": row["keypoints"][:1]},  # would be everybody's: one broadcasts
        {**row, "scores": "x"},
        {**row, "scores": [None] * 14},
        {**row, "index": 1},
        {**row, "index": -1},
    ]
    for text in [f"{head}\n{json.dumps(other)}\n" for other in wrong] + [f"[]\n{line}\n", f"3\n{line}\n"]:
        journal.write_text(text)
        assert run(*known) == 2, text
        assert f"{journal}: wanted the results of an earlier run" in capsys.readouterr().err


def test_results_of_other_people_are_not_mixed_in(weights, lsp, tmp_path, capsys):
    """As many people of a data set of the same name: their joints, or where MPII says they are, differ."""
    folder, _ = lsp
    other = tmp_path / "lsp"
    shutil.copytree(folder, other)
    joints = scipy.io.loadmat(folder / "joints.mat")["joints"]
    scipy.io.savemat(other / "joints.mat", {"joints": joints + [[[1.0]], [[0.0]], [[0.0]]]})
    known = ["--weights", weights, "--arch", "tiny", "--first", "1", "--out", tmp_path / "out"]
    assert run(*known, "--data", folder) == 0
    assert run(*known, "--data", folder) == 0
    capsys.readouterr()
    assert run(*known, "--data", other) == 2
    assert "holds results for another set of people" in capsys.readouterr().err


def test_a_broken_photograph_is_a_miss_and_the_others_go_on(weights, lsp, tmp_path, capsys):
    folder, _ = lsp
    copy = tmp_path / "lsp"
    (copy / "images").mkdir(parents=True)
    for path in [folder / "joints.mat", *(folder / "images").iterdir()]:
        (copy / path.relative_to(folder)).write_bytes(path.read_bytes())
    (copy / "images" / "im1002.jpg").write_text("<html>")
    out = tmp_path / "out"
    assert run("--weights", weights, "--arch", "tiny", "--data", copy, "--out", out) == 2
    error = capsys.readouterr().err
    assert "1 of 4 people count as misses: im1002.jpg#1" in error
    assert "Traceback" not in error
    people = json.loads((out / "predictions.json").read_text())["people"]
    assert [person["keypoints"] is None for person in people] == [False, True, False, False]
    good = (folder / "images" / "im1002.jpg").read_bytes()
    (copy / "images" / "im1002.jpg").write_bytes(good)
    assert run("--weights", weights, "--arch", "tiny", "--data", copy, "--out", out) == 0
