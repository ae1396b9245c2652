"""The GPU's tests, played on the CPU: a wrong name, shape or order of calls is found without a GPU."""

import os
import re
import subprocess
import sys

import pytest
import stand_in
import torch
from gpu_rehearsal import Graph, OnTheCpu

from cpm_repro.ops import _library

TESTS = stand_in.ROOT / "tests" / "cuda" / "test_cuda_ops.py"
HUGE = "two_to_the_31_elements"
NOT_PLAYED = "test_opcheck_on_the_gpu"  # for it torch itself asks for a GPU


def rehearse(path, choice):
    """Exit code and output of the tests of a file, as far as the choice and a CPU go."""
    if _library.LOAD_ERROR is not None:
        pytest.skip(f"extension is not built: {_library.LOAD_ERROR}")
    folders = [str(stand_in.ROOT), str(stand_in.ROOT / "tests" / "csrc")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "gpu_rehearsal", str(path), "-rfs"]
        + ["-p", "no:cacheprovider", "-k", f"not {NOT_PLAYED} and ({choice})"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "choice", ["not cupy", pytest.param("cupy", marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
)
def test_the_gpus_tests_pass_on_a_cpu_that_plays_one(choice):
    code, output = rehearse(TESTS, choice)
    assert code == 0, output
    skipped = re.findall(r"^SKIPPED \[(\d+)\] .*: (.*)$", output, re.MULTILINE)
    assert all(re.fullmatch(r"needs \d GB of free GPU memory", reason) for _, reason in skipped), output
    functions = re.findall(r"^def (test_\w+)\((backend|cuda)\b", TESTS.read_text(), re.MULTILINE)
    once = {name for name, fixture in functions if fixture == "cuda"} - {NOT_PLAYED}
    by_backend = {name for name, fixture in functions if fixture == "backend"}
    huge = [name for name in (once if choice != "cupy" else set()) | by_backend if HUGE in name]
    assert sum(int(count) for count, _ in skipped) == len(huge)


def test_the_gpus_test_of_the_warp_passes_with_the_gpus_own_centre_map():
    code, output = rehearse(stand_in.ROOT / "tests" / "data" / "test_data_device.py", "cuda")
    assert code == 0, output
    assert re.search(r"^1 passed, \d+ deselected", output, re.MULTILINE), output


@pytest.mark.slow
def test_planted_mistakes_in_the_gpus_tests_are_seen(tmp_path):
    text = TESTS.read_text()
    for right, wrong in (
        ("torch.cuda.CUDAGraph()", "torch.cuda.CudaGraph()"),
        ("return ops.imresize(image, 0.7, backend=cuda),", "return image.sum().item(),"),
    ):
        assert right in text
        text = text.replace(right, wrong, 1)
    (tmp_path / "test_copy.py").write_text(text)
    code, output = rehearse(tmp_path / "test_copy.py", "test_cuda_graph")
    assert code == 1
    assert "no attribute 'CudaGraph'" in output
    assert "waits for the device while a graph is captured" in output
    assert output.count("FAILED") == 2
    assert "1 passed" in output


def test_a_played_graph_runs_its_operators_again():
    x = torch.arange(4.0)
    with Graph() as graph:
        y = (x + 1).square()
    x += 2
    graph.replay()
    assert torch.equal(y, (x + 1).square())


def test_tensors_of_two_devices_do_not_go_together():
    with OnTheCpu():
        here, there = torch.ones(3), torch.ones(3, device="cuda")
        assert there.is_cuda
        assert not here.is_cuda
        assert (there + 1).device.type == "cuda"
        assert torch.equal(there.cpu(), here)
        for wrong in (lambda: here + there, lambda: torch.equal(there[:2], here[:2])):
            with pytest.raises(RuntimeError, match="tensors are on two devices"):
                wrong()
        with pytest.raises(TypeError, match="to NumPy"):
            there.numpy()
        with pytest.raises(AssertionError):
            torch.testing.assert_close(there, here)
