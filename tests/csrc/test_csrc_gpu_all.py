"""benchmarks/gpu_all.sh, with stand-ins for Python and the sanitizer: it reports what fails and goes on."""

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import data_root, golden

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu_all.sh"

# Answers the question for the device, fails or hangs in the parts named by the environment, else succeeds.
PYTHON = """#!/usr/bin/env bash
echo "$*" >>"$CALLS"
case "$*" in
  *get_device_capability*)
    [ -n "${SILENT_DEVICE:-}" ] && { trap '' TERM; for i in $(seq 300); do sleep 0.1; done; }
    [ -n "${SLOW_DEVICE:-}" ] && sleep 3
    [ -n "${NO_DEVICE:-}" ] && exit 1; echo 90; exit 0 ;;
esac
[ -n "${BROKEN:-}" ] && case "$*" in *"$BROKEN"*) echo "it broke"; exit 3 ;; esac
[ -n "${SLOW:-}" ] && case "$*" in *"$SLOW"*) sleep 30 ;; esac
[ -n "${DEAF:-}" ] && case "$*" in *"$DEAF"*) trap '' TERM; for i in $(seq 300); do sleep 0.1; done ;; esac
case "$*" in *benchmarks/imresize.py*) [ -n "${REPORT:-}" ] && cp "$REPORT" "$REPORT.then" ;; esac
while [ $# -gt 0 ]; do
  [ "$1" = --out ] && echo "table of $2" >"$2"
  [ "$1" = pytest ] && printf 'test_a PASSED\nSKIPPED [1] a.py:3: why\n=== 1 passed, 1 skipped in 2.50s ===\n'
  shift
done
exit 0
"""
# Writes the limit down that a part has, and how long it may take to end after it.
TIMEOUT = """#!/usr/bin/env bash
echo "$1 $2" >>"$LIMITS"
exec "$REAL_TIMEOUT" "$@"
"""
SANITIZER = """#!/usr/bin/env bash
echo "compute-sanitizer $*" >>"$CALLS"
[ -n "${HAZARD:-}" ] && case "$*" in *"$HAZARD"*) echo "a hazard"; exit 1 ;; esac
exit 0
"""
MATTER_MOST = ["belief_maps", "fuse_multiscale", "training_step", "seven_scales", "inference", "imresize"]
PARTS = ["environment", "build", "test_cuda", *(f"bench_{name}" for name in [*MATTER_MOST, "caffe_sgd"])]
PARTS += ["parity", "sanitizer", "train"]
for before, tests in (("bench_training_step", "test_training"), ("bench_seven_scales", "test_inference")):
    PARTS.insert(PARTS.index(before), tests)


def rows_of(path: Path) -> dict[str, str]:
    """Part -> result, of the summary or the report."""
    return dict(re.findall(r"^\| (\w+) \| (.*) \| \d+ \|$", path.read_text(), re.M))


@pytest.fixture
def gpu_all(tmp_path):
    if shutil.which("bash") is None or shutil.which("timeout") is None:
        pytest.skip("bash and timeout are not both here")
    tools = tmp_path / "tools"
    tools.mkdir()
    data = tmp_path / "data"
    (data / "lspet").mkdir(parents=True)
    for name, text in {"python": PYTHON, "timeout": TIMEOUT, "compute-sanitizer": SANITIZER}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)

    def run(**settings):
        environment = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHON": str(tools / "python"),
            "CALLS": str(tmp_path / "calls"),
            "LIMITS": str(tmp_path / "limits"),
            "REAL_TIMEOUT": str(shutil.which("timeout")),
            "CPM_DATA": str(data),
            **settings,
        }
        command = ["bash", str(SCRIPT), str(tmp_path / "report")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        return done, rows_of(tmp_path / "report/summary.md"), tmp_path

    return run


def test_all_parts_run_and_end_in_one_report(gpu_all):
    done, rows, folder = gpu_all()
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows == dict.fromkeys(PARTS, "ok")
    report = (folder / "report/report.md").read_text()
    for part in PARTS:
        assert f"| {part} | ok |" in report
    assert report.count("table of") == 8
    of_tests = "```\nSKIPPED [1] a.py:3: why\n=== 1 passed, 1 skipped in 2.50s ===\n```\n"
    for part in ("test_cuda", "test_training", "test_inference"):
        assert f"\n{part}:\n\n{of_tests}" in report
    calls = (folder / "calls").read_text()
    assert "pip" not in calls
    named = re.findall(r"tests/\S+\.py", "\n".join(line for line in calls.splitlines() if "-vv" in line))
    assert named[0] == "tests/cuda/test_cuda_ops.py"
    assert len(named) == len(set(named))
    of_a_gpu = [path for path in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in path.read_text()]
    assert {ROOT / name for name in named} == set(of_a_gpu) - {Path(__file__)}
    assert f"train --preset lsp_6stage_minutes --data {folder}/data/lspet" in calls
    for script in re.findall(r"benchmarks/\w+\.py", calls):
        assert (ROOT / script).exists()


def test_the_limits_of_all_parts_together_are_nine_minutes_at_most(gpu_all):
    _, _, folder = gpu_all()
    device, *limits = [line.split() for line in (folder / "limits").read_text().splitlines()]
    assert device == ["--kill-after=3", "60"]  # of the same nine minutes: what comes last has less
    assert len(limits) == len(PARTS)
    longest_end = 3
    assert {kill for kill, _ in limits} == {f"--kill-after={longest_end}"}
    times = [int(seconds) for _, seconds in limits]
    assert all(first < then for first, then in itertools.pairwise(times))  # what is left goes to the next
    assert 505 <= times[-1] <= 525  # GPU_ALL_SECONDS, less the seconds that this took: the last has its time
    assert 525 + longest_end <= 9 * 60


def test_a_part_has_its_own_time_where_more_was_taken_before_it(gpu_all):
    _, _, folder = gpu_all(SLOW_DEVICE="1")
    _, first, *_ = (folder / "limits").read_text().splitlines()
    assert first.split()[1] == "15"


def test_a_broken_part_is_reported_and_the_rest_goes_on(gpu_all):
    done, rows, folder = gpu_all(BROKEN="benchmarks/fuse_multiscale.py")
    assert done.returncode == 1
    assert rows.pop("bench_fuse_multiscale") == "FAILED: exit code 3"
    assert set(rows.values()) == {"ok"}
    assert "it broke" in done.stdout
    report = (folder / "report/report.md").read_text()
    assert "table of" in report
    assert report.endswith("## bench_fuse_multiscale: the last lines of its log\n\n```\nit broke\n```\n")


@pytest.mark.parametrize(
    ("hazard", "tools"),
    [
        ("", ["--error-exitcode", "--tool"]),
        ("--tool racecheck", ["--error-exitcode", "--tool"]),
        ("-k small", ["--error-exitcode"]),
    ],
)
def test_the_sanitizer_looks_for_wrong_memory_and_then_for_races(gpu_all, hazard, tools):
    done, rows, folder = gpu_all(HAZARD=hazard)
    assert rows["sanitizer"] == ("FAILED: exit code 1" if hazard else "ok")
    assert ("a hazard" in done.stdout) == bool(hazard)
    calls = re.findall(r"^compute-sanitizer (\S+) .* -k (.*)$", (folder / "calls").read_text(), re.M)
    assert [tool for tool, _ in calls] == tools
    assert all(choice.startswith("small and not cupy") for _, choice in calls)


def test_races_are_looked_for_in_tests_that_are_there():
    """Every word of the choice names a small test."""
    choice = re.search(r'"small and not cupy and \((.*)\)"', SCRIPT.read_text())[1].split(" or ")
    names = re.findall(r"def (test_small\w+)", (ROOT / "tests/cuda/test_cuda_ops.py").read_text())
    assert all(any(word in name for name in names) for word in choice)


def test_time_that_is_up_is_reported(gpu_all):
    done, rows, _ = gpu_all(SLOW="tests/cuda", GPU_ALL_SECONDS="2")
    assert done.returncode == 1
    assert rows["test_cuda"].startswith("FAILED: more than")
    assert rows["parity"] == "NOT RUN: out of time"
    assert list(rows) == PARTS


def test_the_cases_that_a_part_had_when_it_was_ended_are_in_the_report(gpu_all, tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report/bench_imresize.part.md").write_text("three cases of four")
    gpu_all(SLOW="benchmarks/imresize.py", GPU_ALL_LIMIT="1")
    assert "three cases of four" in (tmp_path / "report/report.md").read_text()


@pytest.mark.parametrize("how", ["SLOW", "DEAF"])
def test_a_part_that_hangs_is_ended_and_the_rest_goes_on(gpu_all, how):
    """Also one that does not listen to SIGTERM."""
    done, rows, folder = gpu_all(**{how: "benchmarks/training_step.py"}, GPU_ALL_LIMIT="1")
    assert done.returncode == 1
    assert rows.pop("bench_training_step") == "FAILED: more than 1 s"
    assert list(rows) == [part for part in PARTS if part != "bench_training_step"]
    assert set(rows.values()) == {"ok"}
    assert (folder / "report/report.md").read_text().count("table of") == 7


def test_the_report_is_there_after_every_part(gpu_all, tmp_path):
    """So that a machine which is taken away leaves one."""
    gpu_all(REPORT=str(tmp_path / "report/report.md"))
    before = PARTS[: PARTS.index("bench_imresize")]
    assert rows_of(tmp_path / "report/report.md.then") == dict.fromkeys(before, "ok")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_part_runs_for_real_in_small_sizes_without_a_gpu(tmp_path):
    """The rehearsal: the same commands, the device and the sizes aside."""
    data = data_root("lspet").parent
    done = subprocess.run(
        ["bash", str(SCRIPT), str(tmp_path)],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHON": sys.executable,
            "GPU_ALL_DEVICE": "cpu",
            "GPU_ALL_SECONDS": "3000",
            "GPU_ALL_LIMIT": "600",
            "CPM_DATA": str(data),
            "CPM_GOLDEN": str(golden("cpmdata.npz").parent),
        },
    )
    rows = rows_of(tmp_path / "report.md")
    assert rows.pop("sanitizer").startswith("not run")
    assert list(rows) == [part for part in PARTS if part != "sanitizer"]
    assert set(rows.values()) == {"ok"}, done.stdout
    assert done.returncode == 0
    text = (tmp_path / "report.md").read_text()
    assert "A rehearsal on a CPU" in text
    assert text.count("## ") >= len(MATTER_MOST) + 1


def test_a_machine_without_a_gpu_is_told(gpu_all):
    done, rows, _ = gpu_all(NO_DEVICE="1")
    assert done.returncode == 1
    assert rows == {"device": "FAILED: torch sees no CUDA device"}


def test_a_device_that_does_not_answer_is_told(gpu_all):
    done, rows, _ = gpu_all(SILENT_DEVICE="1", GPU_ALL_LIMIT="1")
    assert done.returncode == 1
    assert rows == {"device": "FAILED: no answer in 1 s"}


def test_training_without_data_is_not_run_and_says_so(gpu_all, tmp_path):
    done, rows, _ = gpu_all(CPM_DATA=str(tmp_path))
    assert done.returncode == 0
    assert rows["train"].startswith("not run: CPM_DATA")
