"""No file that is read can make the program execute anything: pickles planted wherever one could hide."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cpm_repro.cli import main
from cpm_repro.config import TrainConfig, to_dict
from cpm_repro.model.checkpoint_file import CHECKPOINT_FORMAT


class Hostile:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """Where a pickle that is executed leaves its mark; the test runs in the folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").touch()  # without anything to look at, weights are not opened
    yield tmp_path / "executed"
    assert not (tmp_path / "executed").exists()


def test_the_pickle_would_be_executed(tmp_path):
    """The control: what the other tests plant does act when it is unpickled."""
    pickle.loads(pickle.dumps(Hostile(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


PLAIN = [
    ("predict", "--weights", "x.pt", "photo.png"),
    ("predict", "--weights", "x.safetensors", "photo.png"),
    ("predict", "--weights", "x.caffemodel", "photo.png"),
    ("eval", "--weights", "x.pth"),
    ("eval", "--predictions", "x.npz", "--protocol", "lsp-pck"),
    ("eval", "--predictions", "x.mat", "--protocol", "lsp-pck"),
    ("eval", "--predictions", "x.h5", "--protocol", "mpii-pckh"),
    ("convert", "x.ckpt", "y.safetensors"),
    ("export", "x.pt", "y.onnx"),
    ("train", "--data", "x.mat", "--iterations", "1", "--out", "run"),
    ("train", "--data", "x.json", "--iterations", "1", "--out", "run"),
    ("train", "--weights", "x.pt", "--iterations", "1", "--out", "run"),
    ("train", "--vgg19", "x.pth", "--iterations", "1", "--out", "run", "--arch", "mpii_vgg_6stage"),
    ("data", "check", "x.mat"),
    ("data", "check", "x.csv"),
    ("data", "check", "x.json"),
    ("bench", "compare", "x.json", "x.json"),
]


@pytest.mark.parametrize("command", PLAIN, ids=lambda command: " ".join(command[:3]))
def test_a_bare_pickle_under_any_name(mark, capsys, command):
    for suffix in ("pt", "pth", "ckpt", "safetensors", "caffemodel", "npz", "mat", "h5", "json", "csv"):
        Path(f"x.{suffix}").write_bytes(pickle.dumps(Hostile(mark)))
    assert main(list(command)) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith(f"cpm {command[0]}: error: x.")


@pytest.mark.parametrize("where", ["whole", "model", "config", "tensor", "state_dict", "optimizers"])
def test_a_pickle_inside_a_checkpoint(mark, capsys, where):
    hostile = Hostile(mark)
    values = {
        "format": CHECKPOINT_FORMAT, "config": json.dumps(to_dict(TrainConfig())), "iteration": 0,
        "seconds": 0.0, "best": 0.0, "model": {"conv1_1.weight": torch.zeros(1)}, "optimizers": [],
    }  # fmt: skip
    planted = {
        "whole": hostile,
        "model": {**values, "model": hostile},
        "config": {**values, "config": hostile},
        "tensor": {**values, "model": {"conv1_1.weight": hostile}},
        "state_dict": {"state_dict": {"conv1_1.weight": hostile}},
        "optimizers": {**values, "optimizers": [hostile]},
    }[where]
    torch.save(planted, "evil.pt")
    assert main(["predict", "--weights", "evil.pt", "photo.png"]) == 2
    assert "would have to be executed" in capsys.readouterr().err
    Path("run/checkpoints").mkdir(parents=True)
    shutil.copy("evil.pt", "run/checkpoints/best.pt")
    shutil.copy("evil.pt", "run/checkpoints/last.pt")
    Path("run/config.json").write_text(json.dumps(to_dict(TrainConfig(iterations=2))))
    assert main(["eval", "--weights", "run"]) == 2
    assert main(["train", "--resume", "--out", "run", "--iterations", "2"]) == 2
    assert "would have to be executed" in capsys.readouterr().err


def test_object_arrays_in_npz_and_npy(mark, capsys):
    np.savez("x.npz", pred=np.array([Hostile(mark)], dtype=object), gt=np.zeros((1, 14, 2)))
    assert main(["eval", "--predictions", "x.npz", "--protocol", "lsp-pck"]) == 2
    with zipfile.ZipFile("y.npz", "w") as archive:
        archive.writestr("pred.npy", pickle.dumps(Hostile(mark)))
    assert main(["eval", "--predictions", "y.npz", "--protocol", "lsp-pck"]) == 2
    assert "pickle" in capsys.readouterr().err


def test_metadata_of_safetensors_is_only_text(mark, capsys):
    save_file(
        {"a.weight": torch.zeros(1)}, "x.safetensors", {"about": pickle.dumps(Hostile(mark), 0).decode()}
    )
    assert main(["predict", "--weights", "x.safetensors", "photo.png"]) == 2
    assert "x.safetensors: what it says of its training" in capsys.readouterr().err


def test_skeleton_files_are_data(mark, capsys):
    Path("set/images").mkdir(parents=True)
    Path("set/people.csv").write_text("image,part,x,y\n")
    Path("set/skeleton.toml").write_bytes(pickle.dumps(Hostile(mark)))
    assert main(["data", "check", "set"]) == 2
    assert "skeleton.toml" in capsys.readouterr().err


PACKAGE = Path(__file__).parents[2] / "cpm_repro"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_call_executes_data(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        options = {item.arg: ast.unparse(item.value) for item in node.keywords}
        assert called not in FORBIDDEN, f"{path}:{node.lineno} calls {called}"
        assert options.get("shell") in (None, "False"), f"{path}:{node.lineno} starts a shell"
        assert options.get("allow_pickle") in (None, "False"), f"{path}:{node.lineno} lets pickles in"
        if called == "torch.load":
            assert options.get("weights_only") == "True", f"{path}:{node.lineno} lets pickles in"


FORBIDDEN = {
    "eval", "exec", "compile", "os.system", "os.popen", "pickle.load", "pickle.loads",
    "pickle.Unpickler", "yaml.load", "marshal.load", "marshal.loads", "shelve.open",
}  # fmt: skip
