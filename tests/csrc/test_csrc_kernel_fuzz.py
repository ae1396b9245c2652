"""The CUDA kernels on random cases, under the sanitizers: memory, alignment, arithmetic and races.

AddressSanitizer and UndefinedBehaviorSanitizer look at exactly sized buffers and at the alignment of vectors,
ThreadSanitizer at every access of threads that no barrier orders.
"""

import os
import subprocess

import pytest
import stand_in
from compiled import compiler

MEMORY = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
RACES = ("-fsanitize=thread", "--param", "tsan-distinguish-volatile=1")
# Leak detection needs ptrace.
ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "halt_on_error=1"}


def skip_without(flags, folder):
    """A compiler without these sanitizers, or a machine on which they do not start."""
    (folder / "empty.cpp").write_text("int main() {}\n")
    command = [compiler(), *flags, str(folder / "empty.cpp"), "-o", str(folder / "empty")]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode or subprocess.run([str(folder / "empty")], env=ENVIRONMENT).returncode:
        pytest.skip(f"programs with {flags[0]} do not build or do not start here: {built.stderr}")


@pytest.fixture(scope="module")
def loops(tmp_path_factory):
    """The CPU's loops, which kernels are compared with."""
    folder = tmp_path_factory.mktemp("loops")
    flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-DCPM_NO_CLONES", "-c"]
    sources = sorted((stand_in.ROOT / "csrc" / "cpu").glob("*.cpp"))
    subprocess.run([compiler(), *flags, *map(str, sources)], cwd=folder, check=True)
    return sorted(folder.glob("*.o"))


@pytest.fixture(scope="module", params=[MEMORY, RACES], ids=["memory", "races"])
def sanitized(request, tmp_path_factory):
    """The flags, and the folder of the kernels' objects."""
    folder = tmp_path_factory.mktemp("sanitized")
    skip_without(request.param, folder)
    stand_in.compiled_objects(folder, "kernel_fuzz.cpp", request.param)
    return request.param, folder


def run(folder, flags, loops, cases, seed, replaced=None, rest=None):
    objects = stand_in.compiled_objects(folder, "kernel_fuzz.cpp", flags, replaced, rest)
    program = folder / "kernel_fuzz"
    subprocess.run([compiler(), *flags, *map(str, [*objects, *loops]), "-o", str(program)], check=True)
    command = [str(program), str(cases), str(seed)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)


@pytest.mark.parametrize(
    ("cases", "seed"), [(8, 1), pytest.param(600, 2, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_kernels_are_the_loops_in_any_order(sanitized, loops, tmp_path, cases, seed):
    flags, objects = sanitized
    result = run(tmp_path, flags, loops, cases, seed, {}, objects)
    assert result.returncode == 0, result.stderr[-4000:]
    assert result.stdout == f"{4 * cases} cases\n"


FAULTS = {
    "four cells at once between two vectors": (
        ("belief_maps.cu", "return whole && aligned ?", "return whole ?"),
        MEMORY,
        "misaligned address",
    ),
    "a pixel too far is read": (
        ("imresize_kernel.h", "mirror_index(start + t, p.axis.in)", "mirror_index(start + t, p.axis.in + 1)"),
        MEMORY,
        "heap-buffer-overflow",
    ),
    "a pixel too far is written": (
        ("imresize_kernel.h", "static_cast<T*>(p.to) + k)", "static_cast<T*>(p.to) + k + 1)"),
        MEMORY,
        "heap-buffer-overflow",
    ),
    "sums of threads that are not done": (
        ("belief_map_loss_kernel.h", "= value;\n  __syncthreads();", "= value;"),
        RACES,
        "data race",
    ),
    "cell rows that are not made yet": (
        ("fuse_pixels.h", "      __syncthreads();\n#pragma unroll 1\n      for (; warp", "      for (; warp"),
        RACES,
        "data race",
    ),
    "lowest cells of rows overwritten by those of groups": (
        ("fuse_tables.h", "  __syncthreads();\n  if (mine < groups.count)", "  if (mine < groups.count)"),
        RACES,
        "data race",
    ),
}
SLOW = {"a pixel too far is written", "lowest cells of rows overwritten by those of groups"}


def _planted(name):
    """A fault, under the sanitizer that sees it."""
    return pytest.param(FAULTS[name][1], name, marks=[pytest.mark.slow] * (name in SLOW), id=name)


@pytest.mark.parametrize(("sanitized", "name"), [*map(_planted, FAULTS)], indirect=["sanitized"])
def test_a_planted_mistake_is_seen(sanitized, loops, tmp_path, name):
    flags, objects = sanitized
    fault, _, words = FAULTS[name]
    result = run(tmp_path, flags, loops, 60, 1, stand_in.with_fault(*fault), objects)
    assert result.returncode != 0
    assert words in result.stderr
