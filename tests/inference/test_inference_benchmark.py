"""``cpm eval --procedure release``: what comes out, and what is refused."""

import json

import cv2
import numpy as np
import pytest
import scipy.io
from random_networks import random_net, random_tiny
from release_data import run, write_lspet
from safetensors.torch import save_file

from cpm_repro.cli import main
from cpm_repro.evaluation import read_predictions
from cpm_repro.inference.procedure import BenchmarkProcedure
from cpm_repro.inference.weights import bundled_weights
from cpm_repro.skeleton import CPM14, LSP14

LSP_ORDER = [14, 13, 9, 8, 7, 10, 11, 12, 3, 2, 1, 4, 5, 6]  # spec `data.md`: 1-based target of our parts


def test_lsp_comes_out_as_the_release_writes_it(weights, lsp, tmp_path, capsys):
    folder, images = lsp
    assert run("--weights", weights, "--arch", "tiny", "--data", folder, "--out", tmp_path) == 0
    text = capsys.readouterr().out
    assert "4 people of lsp (val), the release's test procedure" in text
    assert "lsp-pck" in text or "PCK@0.2" in text
    stored = scipy.io.loadmat(tmp_path / "predictions.mat")["prediction_all"]
    assert stored.shape == (14, 2, 4)
    net = random_tiny(1)
    procedure = BenchmarkProcedure(net, box=128)
    for index, image in enumerate(images):
        height, width = image.shape[:2]
        found = procedure(image, (width / 2 - 1, height / 2 - 1), 0.8 / (height / 368))
        for ours, target in enumerate(LSP_ORDER):
            assert np.array_equal(stored[target - 1, :, index], found.keypoints[ours] + 1)


def test_every_file_says_the_same_and_scores_the_same(weights, lsp, tmp_path, capsys):
    folder, _ = lsp
    run("--weights", weights, "--arch", "tiny", "--data", folder, "--out", tmp_path)
    own = json.loads((tmp_path / "scores.json").read_text())["total"]
    archive, matlab = (read_predictions(tmp_path / f"predictions.{kind}") for kind in ("npz", "mat"))
    order = [archive.parts.index(part) for part in LSP14.parts]
    assert np.array_equal(archive.positions[:, order], matlab.positions)
    listed = json.loads((tmp_path / "predictions.json").read_text())
    assert np.array_equal(np.array([p["keypoints"] for p in listed["people"]])[..., :2], archive.positions)
    assert listed["people"][0]["image"] == "im1001.jpg"
    capsys.readouterr()
    scored = tmp_path / "scored"
    assert main(["eval", "--predictions", str(tmp_path / "predictions.npz"), "--protocol", "lsp-pck",
                 "--out", str(scored)]) == 0  # fmt: skip
    again = json.loads(next(scored.glob("*.json")).read_text())
    again = again[0] if isinstance(again, list) else again
    assert again["total"] == own


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (CPM14.parts[::-1], "has its parts in another order than"),
        (tuple(f"finger_{index}" for index in range(14)), "was trained for other parts than"),
    ],
)
def test_other_parts_than_the_networks_are_not_scored(lsp, tmp_path, capsys, parts, words):
    """As without the procedure: a name would have another part's score."""
    _, images = lsp
    cv2.imwrite(str(tmp_path / "a.png"), images[0])
    points = np.column_stack([np.random.default_rng(0).uniform(5, 60, (14, 2)), np.full(14, 2)])
    person = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": points.ravel().tolist()}
    category = {"id": 1, "name": "person", "keypoints": list(parts), "skeleton": []}
    image = {"id": 1, "file_name": "a.png", "width": 64, "height": 70}
    data = tmp_path / "own.json"
    data.write_text(json.dumps({"images": [image], "categories": [category], "annotations": [person]}))
    assert run("--weights", bundled_weights(), "--data", data, "--split", "all") == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--split", "half"], "half"),
        (["--first", "0"], "at least one person"),
        (["--split", "test"], "mpii_human_pose_v1_u12_1.mat"),
        (["--arch", "flic_4stage"], "random.safetensors"),
    ],
)
def test_what_cannot_be_asked_for(weights, lsp, capsys, arguments, words):
    folder, _ = lsp
    arch = [] if "--arch" in arguments else ["--arch", "tiny"]
    try:
        code = run("--weights", weights, "--data", folder, *arch, *arguments)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_options_of_the_release_s_procedure_alone(weights, capsys):
    assert main(["eval", "--weights", str(weights), "--arch", "tiny", "--first", "3"]) == 2
    assert "--split and --first go with --weights and --procedure release" in capsys.readouterr().err


def test_a_person_network_is_scored_by_its_peaks(tmp_path, capsys):
    """As while it trains: one part, its highest belief in each person's crop."""
    save_file(random_net("person_4stage", 3, parts=1, width=1 / 16).state_dict(), tmp_path / "w.safetensors")
    known = ["--weights", str(tmp_path / "w.safetensors"), "--arch", "person_4stage"]
    data = write_lspet(tmp_path / "lspet", people=19)
    assert main(["eval", *known, "--data", str(data), "--out", str(tmp_path / "out")]) == 0
    assert "Person" in capsys.readouterr().out
    with np.load(tmp_path / "out" / "predictions.npz") as file:
        assert file["pred"].shape == (2, 1, 2)
    assert run(*known, "--data", data) == 2
    assert "finds people, not parts: wanted a pose network" in capsys.readouterr().err
