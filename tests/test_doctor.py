"""`cpm doctor`: what is there, what is missing, what to do about it."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path

import tomllib
import torch
from support import without

from cpm_repro import doctor, ops
from cpm_repro.cli import main
from cpm_repro.ops import _library, self_check

ROOT = Path(__file__).parents[1]


def said(capsys) -> dict[str, str]:
    """What the doctor prints, by its first words."""
    assert main(["doctor"]) == 0
    pattern = re.compile(r"^(back ends|C\+\+ compiler|\S+) +(.*)$", re.MULTILINE)
    return dict(pattern.findall(capsys.readouterr().out))


def test_it_knows_every_package_that_the_project_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {re.split(r"[<>=;]", line)[0].strip() for line in project["dependencies"]}
    assert set(doctor.REQUIRED) == required - {"tomli"}  # which Python 3.11 and newer have within
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name != "dev"}
    named = {re.split(r"[<>=]", line)[0]: extra for extra, lines in extras.items() for line in lines}
    assert set(doctor.OPTIONAL) == set(named)
    for name, extra in named.items():
        assert doctor.OPTIONAL[name].endswith(f"pip install cpm_repro[{extra}]")


def test_it_names_versions_and_back_ends(capsys):
    lines = said(capsys)
    for name in doctor.REQUIRED:
        assert re.match(r"\d+\.\d+", lines[name]), name
    assert "reference" in lines["back ends"]


def test_it_says_what_to_do_about_what_is_missing(capsys, monkeypatch, tmp_path):
    (tmp_path / "lspet").mkdir()
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in ("h5py", "tqdm") else "1.0")
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    monkeypatch.setenv("CPM_DATA", str(tmp_path))
    monkeypatch.setenv("CPM_GOLDEN", str(tmp_path / "gone"))
    lines = said(capsys)
    assert lines["tqdm"] == "MISSING: pip install tqdm"
    assert lines["safetensors"].startswith("1.0 does not load: ")
    assert "pip install cpm_repro[h5]" in lines["h5py"]
    for name in ("onnxruntime", "onnxscript", "tensorboard", "cupy-cuda12x", "av", "pyyaml"):
        assert lines[name] == "1.0"
    assert "CUDA" in lines
    assert lines["nvcc"].startswith("not found")
    assert lines["CPM_DATA"] == f"{tmp_path} (lspet)"
    assert "gone: no such folder" in lines["CPM_GOLDEN"]


def test_it_runs_where_torch_is_missing(tmp_path):
    code = without("torch") + "from cpm_repro.cli import main\nsys.exit(main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "\nGPU" not in done.stdout
    assert "\nnumpy" in done.stdout
    assert "\nCPM_DATA" in done.stdout


def test_it_says_why_there_is_no_compiled_code_and_what_builds_it(capsys, monkeypatch):
    monkeypatch.setattr(_library, "LOAD_ERROR", ImportError("no such file"))
    line = said(capsys)["back ends"]
    assert "the extension does not load: no such file" in line
    assert f"build it with `{_library.BUILD_COMMAND}`" in line


def test_it_finds_the_compilers_that_a_build_would_take(capsys, monkeypatch, tmp_path):
    for name in ("my-nvcc", "my-c++"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("CPM_NVCC", str(tmp_path / "my-nvcc"))
    monkeypatch.setenv("CXX", f"{tmp_path / 'my-c++'} -m64")
    lines = said(capsys)
    assert lines["nvcc"] == str(tmp_path / "my-nvcc")
    assert lines["C++ compiler"] == str(tmp_path / "my-c++")


def test_it_says_why_torch_sees_no_gpu(capsys, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert said(capsys)["GPU"] == "none visible to torch"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert said(capsys)["GPU"] == "none visible to torch; CUDA_VISIBLE_DEVICES is ''"

    def too_old():
        warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old", stacklevel=2)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", too_old)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        line = said(capsys)["GPU"]
    assert line.startswith("none visible to torch; CUDA initialization: The NVIDIA driver on your system is")


def test_a_gpu_that_does_not_start_is_said_and_the_rest_follows(capsys, monkeypatch):
    def busy():
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nCompile with")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", busy)
    monkeypatch.setattr(ops, "available_backends", lambda: ("reference",))
    lines = said(capsys)
    assert lines["GPU"] == "does not start: CUDA error: all CUDA-capable devices are busy or unavailable"
    assert "CPM_GOLDEN" in lines


def test_kernels_that_end_in_errors_everywhere_are_for_another_machine(capsys, monkeypatch):
    image = "RuntimeError: launch: no kernel image is available for execution on the device"
    found = {"cuda": dict.fromkeys(self_check._CASES, image), "cupy": {"imresize": "differs by 1"}}
    monkeypatch.setattr(ops, "available_backends", lambda: (*found, "reference"))
    monkeypatch.setattr(self_check, "wrong_operators", found.__getitem__)
    assert main(["doctor"]) == 1
    printed = capsys.readouterr()
    assert f"imresize: {image}" in printed.out
    assert printed.err == (
        "cpm doctor: error: wrong results here from the back end cupy: set CPM_BACKEND=reference, and report "
        "it; the back end cuda runs nothing here: build the extension on this machine with "
        f"`{_library.BUILD_COMMAND}`, or set CPM_BACKEND=reference\n"
    )


def test_slow_operators_are_told_without_a_place_in_the_code(tmp_path):
    code = without("cpm_repro._C") + (
        "from cpm_repro import cli, doctor\nfrom cpm_repro.ops import _backend\nimport torch\n"
        "doctor.doctor = lambda: _backend.choose(None, 'belief_maps_out', torch.device('cpu'))\n"
        "sys.exit(cli.main(['doctor']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith("cpm doctor: warning: cpm_repro runs slow reference operators on cpu tensors")
