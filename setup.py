"""Builds the C++/CUDA extension ``cpm_repro._C``: ``python setup.py build_ext --inplace``.

Folders decide the compiler: csrc/cpu and csrc/ops go to the C++ compiler, csrc/cuda to nvcc, which is run
directly because a CPU build of torch knows no CUDA. The library uses LibTorch's stable ABI only, so that one
build serves torch >= 2.10 with or without CUDA.

Environment: CPM_CUDA=auto|0|1 (auto: if nvcc is found), CPM_NVCC (path), CPM_CUDA_ARCHS (such as "80;90+PTX"),
CXX (compiler), CPM_CXXFLAGS (added last).
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"
# One native build for the common data-centre cards and PTX that every card from Turing on can compile by itself.
DEFAULT_ARCHS = "75+PTX;80;90"
CXX_FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra"]
NVCC_FLAGS = ["-std=c++17", "-O3", "-fmad=false", "--expt-relaxed-constexpr", "-Werror=all-warnings"]


class BuildError(Exception):
    """The extension cannot be built here; the message says why in one line."""


def torch_folder() -> Path:
    """Where torch is installed, found without importing it."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        raise BuildError("torch is not installed here (use `pip install --no-build-isolation`)")
    return Path(list(spec.submodule_search_locations)[0])


def find_nvcc() -> str | None:
    """The CUDA compiler that CPM_CUDA and CPM_NVCC ask for, or None."""
    mode = os.environ.get("CPM_CUDA", "auto")
    if mode not in ("auto", "0", "1"):
        raise BuildError(f"CPM_CUDA must be auto, 0 or 1, got {mode!r}")
    if mode == "0":
        return None
    nvcc = shutil.which(os.environ.get("CPM_NVCC", "nvcc")) or shutil.which("/usr/local/cuda/bin/nvcc")
    if nvcc is None and mode == "1":
        raise BuildError("CPM_CUDA=1 but nvcc is not found: put it on PATH or name it in CPM_NVCC")
    return nvcc


def arch_flags(archs: str) -> list[str]:
    """nvcc's -gencode flags for a list such as "80;90+PTX" (one number: machine code; +PTX: also PTX)."""
    flags = []
    for item in filter(None, archs.replace(" ", ";").split(";")):
        number = item.removesuffix("+PTX").replace(".", "")
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if item.endswith("+PTX"):
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


def run(command: list[str]) -> None:
    """Run one compiler command; its output is shown only when it fails."""
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise BuildError(f"{shlex.join(command)}\n{result.stdout}{result.stderr}")


class BuildExtension(build_ext):
    """Compiles what is older than its source or any header, two files at a time, and links."""

    def build_extension(self, ext: Extension) -> None:
        """Build ``ext``, or in auto mode warn once and leave the package to its reference back end."""
        try:
            print(self._build(Path(self.get_ext_fullpath(ext.name))))
        except BuildError as error:
            ext.optional = True  # nothing to copy into place then
            if os.environ.get("CPM_CUDA", "auto") != "auto":
                sys.exit(f"cpm_repro: {error}")
            print(f"cpm_repro: warning: no extension built, the torch reference will be used: {error}", file=sys.stderr)

    def _build(self, output: Path) -> str:
        torch, nvcc = torch_folder(), find_nvcc()
        cxx = shlex.split(os.environ.get("CXX", "c++"))
        if shutil.which(cxx[0]) is None:
            raise BuildError(f"no C++ compiler {cxx[0]!r} found")
        archs = os.environ.get("CPM_CUDA_ARCHS", DEFAULT_ARCHS)
        defines = ["-DTORCH_TARGET_VERSION=0x020a000000000000"] + (["-DCPM_WITH_CUDA"] if nvcc else [])
        include = [f"-I{torch}/include", f"-I{sysconfig.get_paths()['include']}"]
        extra = shlex.split(os.environ.get("CPM_CXXFLAGS", ""))
        commands = {
            source: [*cxx, *CXX_FLAGS, *defines, *include, *extra] for room in ("cpu", "ops") for source in (CSRC / room).glob("*.cpp")
        }
        if nvcc:
            flags = [*NVCC_FLAGS, *arch_flags(archs), "-Xcompiler", "-fPIC,-fvisibility=hidden,-ffp-contract=off"]
            commands |= {source: [nvcc, *flags] for source in (CSRC / "cuda").glob("*.cu")}
        objects = self._compile(commands)
        output.parent.mkdir(parents=True, exist_ok=True)
        link = [nvcc, "-shared", "-cudart", "static", "-Xcompiler", "-fPIC"] if nvcc else [*cxx, "-shared", *extra]
        keep = ["-Xlinker", "--no-as-needed"]  # libtorch must stay in NEEDED: it brings libtorch_cuda into scope
        run([*link, *map(str, objects), f"-L{torch}/lib", *keep, "-ltorch", "-ltorch_cpu", "-lc10", "-o", str(output)])
        return f"cpm_repro: built {output.name} with CPU{f' and CUDA ({archs})' if nvcc else ' kernels only'}"

    def _compile(self, commands: dict[Path, list[str]]) -> list[Path]:
        newest_header = max(header.stat().st_mtime for header in [*CSRC.rglob("*.h"), Path(__file__)])
        jobs, objects = [], []
        for source, command in sorted(commands.items()):
            target = Path(self.build_temp) / source.parent.name / (source.name + ".o")
            stamp = target.with_suffix(".cmd")
            objects.append(target)
            full = [*command, "-c", str(source), "-o", str(target)]
            made = target.stat().st_mtime if target.exists() else 0.0
            same = stamp.exists() and stamp.read_text() == shlex.join(full)
            if not (same and made > max(newest_header, source.stat().st_mtime)):
                jobs.append((target, stamp, full))
        with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
            list(pool.map(_compile_one, jobs))
        return objects


def _compile_one(job: tuple[Path, Path, list[str]]) -> None:
    target, stamp, command = job
    target.parent.mkdir(parents=True, exist_ok=True)
    run(command)
    stamp.write_text(shlex.join(command))


setup(
    ext_modules=[Extension("cpm_repro._C", sources=[], py_limited_api=True)],
    cmdclass={"build_ext": BuildExtension},
)
