"""The weights and the card that ship with the package come from a finished run, and say which."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from cpm_repro.cli import main
from cpm_repro.errors import UserError
from cpm_repro.inference.weights import load_model
from cpm_repro.training import bundle as room
from cpm_repro.training import load_checkpoint
from cpm_repro.training.bundle import bundle


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "run"
    words = ["train", "--preset", "tiny", "--data", "synthetic", "--iterations", "2", "--width", "0.05"]
    words += ["--batch", "4", "--workers", "1", "--set", "augment.crop=64", "--set", "validate_people=8"]
    assert main([*words, "--out", str(folder)]) == 0
    return folder


def test_the_final_weights_and_a_card_with_the_run_in_it(run, tmp_path):
    target = tmp_path / "small.safetensors"
    card = bundle(run, target)
    assert card == tmp_path / "small.md"
    last = load_checkpoint(run / "checkpoints" / "last.pt").model
    written = load_file(target)
    assert written.keys() == last.keys()
    assert all(torch.equal(written[name], last[name]) for name in last)
    assert load_model(target).augment.crop == 64
    text = card.read_text(encoding="utf-8")
    assert text.startswith("# small\n")
    options = "--set network.width=0.05 --set augment.crop=64 --set solver.batch=4"
    assert f"`cpm train --preset tiny --data synthetic --iterations 2 {options}`" in text
    assert "No photograph is in this repository" in text
    settings = json.loads(text.split("```json")[1].split("```")[0])
    assert settings["network"]["width"] == 0.05
    for line in (run / "report.md").read_text(encoding="utf-8").splitlines()[1:]:
        assert line in text


def card_of(run, tmp_path, **given):
    """The card of the same run, had it been given other settings."""
    config = json.loads((run / "config.json").read_text())
    other = tmp_path / "run"
    other.mkdir()
    for name in ("report.md", "checkpoints"):
        (other / name).symlink_to(run / name)
    (other / "config.json").write_text(json.dumps(config | given))
    return bundle(other, tmp_path / "x.safetensors").read_text(encoding="utf-8")


def test_a_budget_in_minutes_is_told_in_minutes(run, tmp_path):
    given = {"minutes": 20.0, "data": "some/where/lspet", "weights": "/some/where/first.safetensors"}
    card = card_of(run, tmp_path, **given)
    assert "--data path/to/lspet --weights path/to/first.safetensors --minutes 20 --set" in card
    assert '"weights": "first.safetensors"' in card
    assert "some/where" not in card


def test_mixed_data_are_named_whole(run, tmp_path):
    card = card_of(run, tmp_path, data="/some/lspet@2+there/own@1")
    assert "--data path/to/lspet@2+path/to/own@1 --iterations" in card
    assert '"data": "lspet@2+own@1"' in card


def test_what_cannot_be_shipped(run, tmp_path, monkeypatch):
    for folder, target in ((tmp_path, "x.safetensors"), (run, "x.pt")):
        with pytest.raises(UserError, match="wanted a finished run"):
            bundle(folder, tmp_path / target)
    monkeypatch.setattr(room, "LARGEST", 1000)
    with pytest.raises(UserError, match=r"x\.safetensors: \d+ bytes, wanted at most 1000"):
        bundle(run, tmp_path / "x.safetensors")
    assert not (tmp_path / "x.md").exists()


def test_as_a_command(tmp_path):
    words = [sys.executable, "-m", "cpm_repro.training.bundle", str(tmp_path), "x.safetensors"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("bundle: error: ")
    assert len(done.stderr.splitlines()) == 1
