"""The CUDA kernels on random cases, under the sanitizers: memory, alignment, arithmetic and races.

AddressSanitizer and UndefinedBehaviorSanitizer look at exactly sized buffers and at the alignment of vectors,
ThreadSanitizer at every access of threads that no barrier orders.
"""

import os
import re
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


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    """The folder of the kernels' objects, compiled once with each of the flags that tests ask for."""
    folders = {}

    def folder_of(flags):
        if flags not in folders:
            folder = tmp_path_factory.mktemp("sanitized")
            skip_without(flags, folder)
            stand_in.compiled_objects(folder, "kernel_fuzz.cpp", flags)
            folders[flags] = folder
        return folders[flags]

    return folder_of


def link(folder, flags, objects, loops):
    program = folder / "kernel_fuzz"
    subprocess.run([compiler(), *flags, *map(str, [*objects, *loops]), "-o", str(program)], check=True)
    return program


@pytest.fixture(scope="module")
def races(sanitized, loops, tmp_path_factory):
    """The program in which ThreadSanitizer looks at the kernels as they are."""
    objects = sorted(sanitized(RACES).glob("*.o"))
    return link(tmp_path_factory.mktemp("races"), RACES, objects, loops)


def run(program, *arguments):
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)


@pytest.mark.parametrize("flags", [MEMORY, RACES], ids=["memory", "races"])
@pytest.mark.parametrize(
    ("cases", "seed"), [(8, 1), pytest.param(600, 2, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_kernels_are_the_loops_in_any_order(sanitized, loops, tmp_path, flags, cases, seed):
    result = run(link(tmp_path, flags, sorted(sanitized(flags).glob("*.o")), loops), cases, seed)
    assert result.returncode == 0, result.stderr[-4000:]
    assert result.stdout == f"{4 * cases} cases\n"


# Thread 0 alone reads what these keep from it, and itself writes there next.
NOT_NEEDED = (
    "const double total = shared[0];\n  __syncthreads();",
    "largest[number] = most;\n    __syncthreads();",
)


TEXTS = {file.name: file.read_text() for file in sorted(stand_in.CUDA.glob("*.h"))}
BARRIERS = [
    (name, text.count("\n", 0, found.start()) + 1)
    for name, text in TEXTS.items()
    for found in re.finditer(r"\b__syncthreads\(\);", text)
    if not text[: found.end()].endswith(NOT_NEEDED)
]
"""File and line of every barrier that orders something."""


def test_there_is_a_barrier_wherever_threads_share_memory():
    assert {name for name, _ in BARRIERS} == {name for name, text in TEXTS.items() if "__shared__" in text}


@pytest.mark.parametrize(("file", "line"), BARRIERS)
def test_a_barrier_that_is_forgotten_is_seen(races, file, line):
    """Each of them: of a GPU's races few show in results, and none in every run."""
    result = run(races, 8, 1, file, line)
    assert result.returncode != 0
    assert "data race" in result.stderr


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
}
SLOW = {"a pixel too far is written"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in FAULTS])
def test_a_planted_mistake_is_seen(sanitized, loops, tmp_path, name):
    fault, flags, words = FAULTS[name]
    changed = stand_in.with_fault(*fault)
    objects = stand_in.compiled_objects(tmp_path, "kernel_fuzz.cpp", flags, changed, sanitized(flags))
    result = run(link(tmp_path, flags, objects, loops), 60, 1)
    assert result.returncode != 0
    assert words in result.stderr
