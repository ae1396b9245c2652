"""What a run shows: losses in both units, TensorBoard's events, the report as Markdown and as a page."""

import json
import sys
from dataclasses import replace

import pytest
import torch

from cpm_repro.cli import main
from cpm_repro.config import override, preset
from cpm_repro.training import RunResult, train
from cpm_repro.training.journal import Journal, Update
from cpm_repro.training.report import Finished
from cpm_repro.training.run_folder import RunFolder

SMALL = {"network.width": 0.05, "augment.crop": 64, "solver.batch": 4, "validate_people": 5}


def config(iterations=4, **changes):
    base = replace(preset("tiny"), minutes=None, iterations=iterations, validate_every=0.5)
    return override(base, {**SMALL, **changes})


def test_loss_per_pixel_is_the_mean_squared_difference():
    """Two people, three maps of 4 x 5 cells: Caffe's loss is the sum over 2N, the other one the mean."""
    difference = torch.randn(2, 3, 4, 5)
    caffe = float(difference.square().sum() / (2 * 2))
    made = Update(1, "all", 1.0, 0.1, {"lr": 1e-3}, [caffe], 3 * 4 * 5, 1.0, 0.0, 0.1)
    assert made.per_pixel() == pytest.approx([float(difference.square().mean())])


def test_time_left_is_by_the_pace_of_this_process(tmp_path):
    """A snapshot of Caffe's may be taken up half way, and says nothing of the seconds before."""
    journal = Journal(RunFolder(tmp_path), writes=True)
    journal.recall("solver", 0.0, 0.5)
    made = Update(50_100, "solver", 10.0, 0.501, {"lr": 1e-3}, [1.0], 1, 1.0, 0.0, 0.1)
    journal.update(made)
    assert journal._status(made).seconds_left == pytest.approx(10.0 * 0.499 / 0.001)


def test_all_learning_rates_are_shown(tmp_path, capsys):
    """Under Muon ``lr`` is AdamW's, of a few layers."""
    train(config(iterations=1), tmp_path / "run")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("100%  iter 1")]
    (record,) = [record for record in RunFolder(tmp_path / "run").records() if record["kind"] == "train"]
    assert f"  muon_lr {record['muon_lr']:.2e}  lr {record['lr']:.2e}  loss per stage " in line


def events(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder / "tensorboard"), {"images": 0, "histograms": 0})
    return found.Reload()


def test_tensorboard_has_scalars_pictures_and_gradients_per_layer(tmp_path):
    run = tmp_path / "run"
    train(config(**{"solver.average": 0.9}), run)
    found = events(run)
    records = [record for record in RunFolder(run).records() if record["kind"] == "train"]
    seen = [(event.step, event.value) for event in found.Scalars("loss/stage3")]
    assert seen == [(r["iteration"], pytest.approx(r["loss"][2])) for r in records]
    assert {"lr", "muon_lr", "gradient_norm", "loss_per_pixel/stage1", "pck/stage2"} <= set(
        found.Tags()["scalars"]
    )
    assert [event.step for event in found.Histograms("gradient/conv1_1.weight")] == [2, 4]
    assert found.Histograms("gradient/Mconv7_stage3.weight")[0].histogram_value.num > 0
    pictures = found.Images("beliefs")
    assert [picture.step for picture in pictures] == [2, 4]
    assert pictures[0].width > 15 * 96  # a column for each part and the background
    assert pictures[0].encoded_image_string[:4] == b"\x89PNG"


def test_watching_changes_nothing_and_is_not_needed(tmp_path, monkeypatch):
    """Without TensorBoard the same run: neither pictures nor histograms touch it."""
    train(config(), tmp_path / "with")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    train(config(), tmp_path / "without")
    assert not (tmp_path / "without" / "tensorboard").exists()
    a, b = ([r.get("loss") for r in RunFolder(tmp_path / run).records()] for run in ("with", "without"))
    assert a == b


def test_a_board_that_cannot_be_written_is_given_up(tmp_path, capsys):
    pytest.importorskip("tensorboard")
    from cpm_repro.training.board import Board

    def full(*_):
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Board, "update", full)
        train(config(), tmp_path / "run")
    said = capsys.readouterr().out
    assert said.count("TensorBoard's events cannot be written (No space left on device)") == 1
    assert len([r for r in RunFolder(tmp_path / "run").records() if r["kind"] == "train"]) == 4


def test_the_report_is_markdown_and_one_page(tmp_path, capsys):
    run = tmp_path / "run"
    settings = [f"--set={name}={json.dumps(value)}" for name, value in SMALL.items()]
    assert main(["train", "--iterations", "3", "--out", str(run), *settings]) == 0
    printed = capsys.readouterr().out
    assert "(last per pixel " in printed
    text = (run / "report.md").read_text()
    assert text in printed
    assert "| Stage | Loss, Caffe's units, last 3 updates | per pixel |" in text
    steps = [record for record in RunFolder(run).records() if record["kind"] == "train"]
    mean = sum(step["loss"][1] for step in steps) / 3
    assert f"| 2 | {mean:.3f} | {mean * 2 / (15 * 8 * 8):.3e} |" in text
    page = (run / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "data:image/png;base64," in page
    assert "Caffe&#x27;s units" in page
    assert "http" not in page.replace("data:image", "")[:4000]  # needs no other file


def test_mixed_data_are_all_named_in_the_title(tmp_path):
    config = replace(preset("tiny"), data="some/where/lspet@2+there/hands@1")
    result = RunResult(tmp_path, None, [], 0, 0.0)
    assert Finished.of(result, config).title == "tiny on lspet@2+hands@1"
