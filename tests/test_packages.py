"""Packages that are not installed, or do not load: one line from every command."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support import without

from cpm_repro import doctor
from cpm_repro.cli import main
from cpm_repro.data.lmdb_store import LmdbDataset
from cpm_repro.data.lmdb_write import write_lmdb
from cpm_repro.data.skeleton_file import read_skeleton
from cpm_repro.errors import UserError
from cpm_repro.evaluation.prediction_files import read_predictions
from cpm_repro.packages import optional_module


@pytest.mark.parametrize(
    ("module", "arguments"),
    [("tqdm", ["predict", "x.png"]), ("google.protobuf", ["proto", "lsp_6stage", "--out", "x"])],
)
def test_a_missing_package_is_one_line(module, arguments, tmp_path):
    (tmp_path / "x.png").touch()
    code = without(module) + "from cpm_repro.cli import main\nsys.exit(main(sys.argv[1:]))"
    program = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    sentence = f"the package {module.split('.')[0]} is not installed (cpm doctor says what is missing)"
    assert done.stderr == f"cpm {arguments[0]}: error: {sentence}\n"


@pytest.mark.parametrize(
    "error",
    [
        ImportError("cannot import name", name="cpm_repro.ops"),
        ModuleNotFoundError("No module named", name="cpm_repro.opz"),
        ImportError("cannot import name", name="numpy", path="/x/numpy/__init__.py"),
        ImportError("odd"),
    ],
)
def test_our_own_broken_imports_are_no_missing_package(error, monkeypatch):
    def broken() -> None:
        raise error

    monkeypatch.setattr(doctor, "doctor", broken)
    with pytest.raises(ImportError):
        main(["doctor"])


def test_a_package_whose_library_does_not_load_is_one_line(capsys, monkeypatch):
    def broken() -> None:
        raise ImportError("libGL.so.1: no such file", name="cv2", path="/x/cv2/cv2.abi3.so")

    monkeypatch.setattr(doctor, "doctor", broken)
    assert main(["doctor"]) == 1
    assert "the package cv2 does not load: libGL.so.1: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "use", "words"),
    [
        ("lmdb", LmdbDataset, r"an LMDB needs the package lmdb: pip install 'cpm_repro\[lmdb\]'"),
        ("lmdb", lambda path: write_lmdb([], [], path / "out"), r"out: an LMDB needs the package lmdb"),
        (
            "yaml",
            lambda path: read_skeleton(path / "skeleton.yaml"),
            r"package yaml: pip .*\[yaml\]",
        ),
        ("h5py", lambda path: read_predictions(path / "x.h5"), r"x.h5: an HDF5 file needs the package h5py"),
    ],
)
def test_a_missing_extra_is_named_before_anything_is_written(module, use, words, tmp_path, monkeypatch):
    for name in ("data.mdb", "skeleton.yaml", "x.h5"):
        (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=words):
        use(tmp_path)
    assert not (tmp_path / "out").exists()


def test_an_extra_that_does_not_load_says_why(tmp_path, monkeypatch):
    (tmp_path / "broken_extra.py").write_text("import not_there")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="broken_extra: it does not load: No module named 'not_there"):
        optional_module("broken_extra", "some", "This")
