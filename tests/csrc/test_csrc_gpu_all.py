"""benchmarks/gpu_all.sh, with stand-ins for Python and the sanitizer: it reports what fails and goes on."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_all.sh"

# Answers the question for the device, fails or sleeps in the parts named by the environment, else succeeds.
PYTHON = """#!/usr/bin/env bash
echo "$*" >>"$CALLS"
case "$*" in
  *get_device_capability*) [ -n "${NO_DEVICE:-}" ] && exit 1; echo 90; exit 0 ;;
esac
[ -n "${BROKEN:-}" ] && case "$*" in *"$BROKEN"*) echo "it broke"; exit 3 ;; esac
[ -n "${SLOW:-}" ] && case "$*" in *"$SLOW"*) sleep 30 ;; esac
while [ $# -gt 0 ]; do
  [ "$1" = --out ] && echo "table of $2" >"$2"
  shift
done
exit 0
"""
PARTS = ["environment", "build", "test_cuda"]
KERNELS = ["belief_maps", "fuse_multiscale", "imresize", "caffe_sgd"]
PARTS += [f"bench_{name}" for name in [*KERNELS, "training_step", "inference", "seven_scales"]]
PARTS += ["parity", "sanitizer", "train"]


@pytest.fixture
def gpu_all(tmp_path):
    if shutil.which("bash") is None or shutil.which("timeout") is None:
        pytest.skip("bash and timeout are not both here")
    tools = tmp_path / "tools"
    tools.mkdir()
    data = tmp_path / "data"
    (data / "lspet").mkdir(parents=True)
    for name, text in {"python": PYTHON, "compute-sanitizer": "#!/usr/bin/env bash\nexit 0\n"}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)

    def run(**settings):
        environment = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHON": str(tools / "python"),
            "CALLS": str(tmp_path / "calls"),
            "CPM_DATA": str(data),
            **settings,
        }
        command = ["bash", str(SCRIPT), str(tmp_path / "report")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        rows = re.findall(r"^\| (\w+) \| (.*) \| \d+ \|$", (tmp_path / "report/summary.md").read_text(), re.M)
        return done, dict(rows), tmp_path

    return run


def test_all_parts_run_and_end_in_one_report(gpu_all):
    done, rows, folder = gpu_all()
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows == dict.fromkeys(PARTS, "ok")
    report = (folder / "report/report.md").read_text()
    for part in PARTS:
        assert f"| {part} | ok |" in report
    assert report.count("table of") == 8
    calls = (folder / "calls").read_text()
    assert "pip" not in calls
    assert f"train --preset lsp_6stage_modern --data {folder}/data/lspet" in calls
    for script in re.findall(r"benchmarks/\w+\.py", calls):
        assert (SCRIPT.parents[1] / script).exists()


def test_a_broken_part_is_reported_and_the_rest_goes_on(gpu_all):
    done, rows, folder = gpu_all(BROKEN="benchmarks/fuse_multiscale.py")
    assert done.returncode == 1
    assert rows.pop("bench_fuse_multiscale") == "FAILED: exit code 3"
    assert set(rows.values()) == {"ok"}
    assert "it broke" in done.stdout
    assert "table of" in (folder / "report/report.md").read_text()


def test_time_that_is_up_is_reported(gpu_all):
    done, rows, _ = gpu_all(SLOW="tests/cuda", GPU_ALL_SECONDS="2")
    assert done.returncode == 1
    assert rows["test_cuda"].startswith("FAILED: more than")
    assert rows["parity"] == "NOT RUN: out of time"
    assert list(rows) == PARTS


def test_a_machine_without_a_gpu_is_told(gpu_all):
    done, rows, _ = gpu_all(NO_DEVICE="1")
    assert done.returncode == 1
    assert rows == {"device": "FAILED: torch sees no CUDA device"}


def test_training_without_data_is_not_run_and_says_so(gpu_all, tmp_path):
    done, rows, _ = gpu_all(CPM_DATA=str(tmp_path))
    assert done.returncode == 0
    assert rows["train"].startswith("not run: CPM_DATA")
