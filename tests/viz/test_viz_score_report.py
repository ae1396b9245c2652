"""Scoring a file of predictions from end to end."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest

from cpm_repro.errors import UserError
from cpm_repro.skeleton import CPM14, LSP14
from cpm_repro.viz import score_report


def write(folder, name, noise, people=30):
    rng = np.random.default_rng(0)
    truth = rng.uniform(10, 90, (people, 14, 2))
    pred = truth + np.random.default_rng(1).normal(0, noise, truth.shape)
    images = np.array([f"p{index}.png" for index in range(people)])
    np.savez(folder / name, pred=pred, gt=truth, parts=np.array(CPM14.parts), image=images)
    return folder / name


def test_everything_is_written(tmp_path, capsys):
    predictions, other = write(tmp_path, "a.npz", 4.0), write(tmp_path, "b.npz", 12.0)
    (tmp_path / "images").mkdir()
    for index in range(30):
        cv2.imwrite(str(tmp_path / "images" / f"p{index}.png"), np.full((100, 100, 3), 90, np.uint8))
    out = tmp_path / "out"
    scored = score_report(predictions, compare=other, out=out, images=tmp_path / "images", resamples=100)
    text = capsys.readouterr().out
    assert "| Head | Sho | Elb | Wri | Hip | Kne | Ank | Total | Mean |" in text
    assert "95 % intervals by 100 resamples of people. AUC" in text
    assert "PCK@0.2 (lspet-pck)" in text
    content = json.loads((out / "scores.json").read_text())
    assert content["total"] == scored.table.total
    assert content["intervals"]["Total"]["low"] < content["total"] < content["intervals"]["Total"]["high"]
    assert content["paired"]["low"] > 0
    rows = {row["row"]: row for row in csv.DictReader((out / "scores.csv").open())}
    assert float(rows["Total"]["percent"]) == pytest.approx(scored.table.total, abs=1e-3)
    assert float(rows["left_wrist"]["percent"]) == pytest.approx(
        scored.table.per_joint["left_wrist"], abs=1e-3
    )
    worst = list(csv.DictReader((out / "failures.csv").open()))
    share = [int(row["missed"]) / int(row["counted"]) for row in worst]
    assert share == sorted(share, reverse=True)
    assert worst[0]["name"] == f"p{worst[0]['person']}.png"
    for picture in ("curves.png", "failures.png"):
        assert cv2.imread(str(out / picture)) is not None
    assert (out / "curves.svg").exists()


def test_a_second_file_is_held_against_the_first_one_s_truth(tmp_path, capsys):
    """It may be predictions alone."""
    predictions = write(tmp_path, "a.npz", 4.0)
    with np.load(predictions) as file:
        order = [CPM14.index(part) for part in LSP14.parts]
        np.savez(tmp_path / "b.npz", pred=file["pred"][:, order] + 200.0, parts=np.array(LSP14.parts))
    scored = score_report(predictions, compare=tmp_path / "b.npz", resamples=100)
    assert f"b.npz: {scored.table.total:+.2f} points" in capsys.readouterr().out


@pytest.mark.parametrize(("people", "few"), [(9, True), (10, False)])
def test_an_interval_of_few_people_is_called_too_narrow(tmp_path, capsys, people, few):
    score_report(write(tmp_path, "a.npz", 4.0, people), resamples=100)
    assert ("too narrow for so few" in capsys.readouterr().out) == few


@pytest.mark.parametrize(
    "named", ["p0.png#1", "data/p0.png#2", "of/p0.png#1", "/elsewhere/p0.png", "p0.png", "data/of/p0.png"]
)
def test_people_are_drawn_on_the_photograph_that_their_names_mean(tmp_path, named):
    """Our own predictions number the people of a photograph; other files have folders before its name."""
    folder = tmp_path / "images" / ("of" if "of/" in named else "")
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "p0.png"), np.full((100, 100, 3), 90, np.uint8))
    truth = np.random.default_rng(0).uniform(10, 90, (1, 14, 2))
    parts = np.array(CPM14.parts)
    np.savez(tmp_path / "a.npz", pred=truth + 50, gt=truth, parts=parts, image=np.array([named]))
    score_report(tmp_path / "a.npz", out=tmp_path / "out", images=tmp_path / "images", resamples=10)
    assert cv2.imread(str(tmp_path / "out" / "failures.png")) is not None


def test_without_a_miss_there_is_nobody_to_draw(tmp_path, capsys):
    """No photograph could be read, it said, and the curves were not drawn."""
    score_report(write(tmp_path, "a.npz", 0.0), out=tmp_path / "out", images=tmp_path, resamples=10)
    assert "nobody has a miss: no failures.png" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["curves.png"]


def test_bars_in_the_names_of_parts_do_not_move_the_intervals(tmp_path, capsys):
    truth = np.random.default_rng(0).uniform(10, 90, (20, 3, 2))
    names = {"parts": np.array(["a|b", "c", "d"]), "torso": np.array(["c", "d"])}
    np.savez(
        tmp_path / "a.npz", pred=truth + np.random.default_rng(1).normal(0, 4, truth.shape), gt=truth, **names
    )
    score_report(tmp_path / "a.npz", resamples=10)
    head, _, numbers, spans = capsys.readouterr().out.splitlines()[:4]
    assert head == r"| a\|b | c | d | Total | Mean |"
    assert spans.count("|") == numbers.count("|")
    assert "| - |" not in spans


def test_what_cannot_be_reported(tmp_path):
    predictions = write(tmp_path, "a.npz", 4.0)
    with pytest.raises(UserError, match="none of the photographs"):
        score_report(predictions, out=tmp_path / "out", images=tmp_path, resamples=10)
    assert (tmp_path / "out" / "curves.png").exists()
    with pytest.raises(UserError, match="known: lsp-pck"):
        score_report(predictions, protocol="pck")
    truth = np.zeros((2, 14, 2))  # torsos of no length
    np.savez(tmp_path / "flat.npz", pred=truth, gt=truth)
    with pytest.raises(UserError, match="no joint of any person counts"):
        score_report(tmp_path / "flat.npz")
