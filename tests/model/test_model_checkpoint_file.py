"""Checkpoints and what weights say of themselves, from somebody who means ill."""

from __future__ import annotations

import json
import zipfile

import pytest
import torch

from cpm_repro.caffe.weight_files import read_weight_file
from cpm_repro.errors import UserError
from cpm_repro.model.about import about_from_json
from cpm_repro.model.checkpoint_file import CHECKPOINT_FORMAT


def inside_itself() -> list:
    values: list = []
    values.append(values)
    return values


def far_more_than_the_file() -> list:
    values = [0] * 10
    for _ in range(7):
        values = [values] * 10
    return values


@pytest.mark.parametrize("make", [inside_itself, far_more_than_the_file])
def test_lists_that_contain_themselves_or_one_another(tmp_path, make):
    torch.save({"format": CHECKPOINT_FORMAT, "x": make(), "digest": "x"}, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"x\.pt: damaged: it holds more than any checkpoint"):
        read_weight_file(tmp_path / "x.pt")


def test_a_compressed_archive_is_refused(tmp_path):
    """100 kB that claim 100 MB."""
    torch.save({"conv.weight": torch.zeros(25_000_000)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain:
        entries = {item.filename: plain.read(item) for item in plain.infolist()}
    (tmp_path / "plain.pt").unlink()
    with zipfile.ZipFile(tmp_path / "small.pt", "w", zipfile.ZIP_DEFLATED) as small:
        for name, content in entries.items():
            small.writestr(name, content)
    with pytest.raises(UserError, match=r"small\.pt: not an intact checkpoint \(a compressed archive"):
        read_weight_file(tmp_path / "small.pt")


@pytest.mark.parametrize("key", ["crop", "flip_pairs"])
def test_numbers_that_are_infinite(key):
    skeleton = {"name": "a", "parts": ["a", "b"], "flip_pairs": [[0, 1]], "limbs": [], "groups": []}
    skeleton["torso"] = None
    values = {"augment": {"crop": 128}, "trained_on": "x", "skeleton": skeleton}
    assert about_from_json(json.dumps(values)).augment.crop == 128
    values["augment"]["crop"] = float("inf") if key == "crop" else 128
    skeleton["flip_pairs"] = [[float("inf"), 1]] if key == "flip_pairs" else []
    with pytest.raises(UserError, match="infinity"):
        about_from_json(json.dumps(values))


@pytest.mark.parametrize("dist", [0, -1, float("nan"), float("inf"), "far"])
def test_people_of_no_size(dist):
    values = {"augment": {"method": "fast", "target_dist": dist}, "trained_on": "x", "skeleton": None}
    with pytest.raises(UserError, match="what it says of its training cannot be used"):
        about_from_json(json.dumps(values))


def test_metadata_of_an_impossible_network_names_the_file(tmp_path):
    from safetensors.torch import save_file

    network = {"arch": "tiny", "stages": "3", "parts": "14", "width": "nan"}
    save_file({"a.weight": torch.zeros(1)}, str(tmp_path / "x.safetensors"), metadata=network)
    with pytest.raises(UserError, match=r"x\.safetensors: its metadata names no network"):
        read_weight_file(tmp_path / "x.safetensors")
