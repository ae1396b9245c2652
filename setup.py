"""Builds the C++/CUDA extension ``cpm_repro._C``: ``python setup.py build_ext --inplace``.

Folders decide the compiler: csrc/cpu and csrc/ops go to the C++ compiler, csrc/cuda to nvcc, which is run
directly because a CPU build of torch knows no CUDA. The library uses LibTorch's stable ABI only, so that one
build serves torch >= 2.10 with or without CUDA.

Environment: CPM_CUDA=auto|0|1 (auto: if nvcc is found), CPM_NVCC (path), CPM_CUDA_ARCHS ("80;90+PTX"),
CXX (compiler), CPM_CXXFLAGS (added last), CPM_EXTENSION=0 (install the package without building).
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
from setuptools.command import build_ext, build_py

CSRC = Path(__file__).resolve().parent / "csrc"
# Machine code for Turing and the common data-centre cards, and PTX that every newer card compiles by itself.
DEFAULT_ARCHS = "75;80+PTX;90"
CXX_FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra"]
CXX_FLAGS += ["-DTORCH_TARGET_VERSION=0x020a000000000000"]
NVCC_FLAGS = ["-std=c++17", "-O3", "-fmad=false", "--expt-relaxed-constexpr", "-Werror=all-warnings"]
NVCC_FLAGS += ["-Xcompiler", "-fPIC,-fvisibility=hidden,-ffp-contract=off"]
# libtorch must stay in NEEDED even if no symbol asks for it: it brings libtorch_cuda into scope.
LIBRARIES = ["-Xlinker", "--no-as-needed", "-ltorch", "-ltorch_cpu", "-lc10"]


class BuildError(Exception):
    """The extension cannot be built here; the message says why in one line."""


def torch_folder() -> Path:
    """Where torch is installed, found without importing it."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise BuildError("torch is not installed here (use `pip install --no-build-isolation`)")
    return Path(spec.origin).parent


def find_nvcc() -> str | None:
    """The CUDA compiler that CPM_CUDA and CPM_NVCC ask for, or None."""
    if (mode := os.environ.get("CPM_CUDA", "auto")) not in ("auto", "0", "1"):
        sys.exit(f"cpm_repro: CPM_CUDA must be auto, 0 or 1, got {mode!r}")
    if mode == "0":
        return None
    named = os.environ.get("CPM_NVCC")
    nvcc = shutil.which(named or "nvcc") or (None if named else shutil.which("/usr/local/cuda/bin/nvcc"))
    if nvcc is None and mode == "1":
        raise BuildError("CPM_CUDA=1 but nvcc is not found: put it on PATH or name it in CPM_NVCC")
    return nvcc


def arch_flags(archs: str) -> list[str]:
    """nvcc's -gencode flags for a list such as "80;90+PTX" (one number: machine code; +PTX: also PTX)."""
    flags = []
    for item in archs.replace(";", " ").split():
        number = item.removesuffix("+PTX").replace(".", "")
        kinds = ("sm", "compute") if item.endswith("+PTX") else ("sm",)
        flags += [f"-gencode=arch=compute_{number},code={kind}_{number}" for kind in kinds]
    return flags


def run(command: list[str], stamp: Path | None = None) -> None:
    """Run one compiler command and note it in ``stamp``; its output is shown only when it fails."""
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise BuildError(f"{shlex.join(command)}\n{result.stdout}{result.stderr}")
    if stamp is not None:
        stamp.write_text(shlex.join(command))


class BuildPackage(build_py.build_py):
    """Puts the sources that the CuPy back end compiles at run time into the package."""

    def run(self) -> None:
        """As usual, then csrc/math and csrc/cuda; an editable install finds them in the checkout."""
        shutil.rmtree(Path(self.build_lib, "cpm_repro"), ignore_errors=True)  # of other sources, or none
        super().run()
        for room in () if self.editable_mode else ("math", "cuda"):
            shutil.copytree(CSRC / room, Path(self.build_lib, "cpm_repro/csrc", room), dirs_exist_ok=True)


class BuildExtension(build_ext.build_ext):
    """Compiles what is older than its source or any header, two files at a time, and links."""

    def build_extension(self, ext: Extension) -> None:
        """Build ``ext``; do without CUDA, or without the extension, with one warning, unless CPM_CUDA=1."""
        output, strict = Path(self.get_ext_fullpath(ext.name)), os.environ.get("CPM_CUDA") == "1"
        try:
            nvcc = find_nvcc()
            try:
                print(self._build(output, nvcc))
            except BuildError as error:
                if strict or not nvcc:
                    raise
                print(f"{self._build(output, None)}; the CUDA half failed: {error}", file=sys.stderr)
        except BuildError as error:
            if strict:
                sys.exit(f"cpm_repro: {error}")
            ext.optional = True  # nothing to copy into place then
            print(f"cpm_repro: warning: no extension built, see `cpm doctor`: {error}", file=sys.stderr)

    def _build(self, output: Path, nvcc: str | None) -> str:
        torch, archs = torch_folder(), os.environ.get("CPM_CUDA_ARCHS", DEFAULT_ARCHS)
        cxx, extra = (shlex.split(os.environ.get(name, "")) for name in ("CXX", "CPM_CXXFLAGS"))
        cxx = cxx or ["c++"]
        if shutil.which(cxx[0]) is None:
            raise BuildError(f"no C++ compiler {cxx[0]!r} found")
        include = [f"-I{torch}/include", f"-I{sysconfig.get_paths()['include']}"]
        compile_cpp = [*cxx, *CXX_FLAGS, *(["-DCPM_WITH_CUDA"] if nvcc else []), *include, *extra]
        commands = dict.fromkeys([*CSRC.glob("cpu/*.cpp"), *CSRC.glob("ops/*.cpp")], compile_cpp)
        link = [*cxx, "-shared", *extra]
        if nvcc:
            commands |= {cu: [nvcc, *NVCC_FLAGS, *arch_flags(archs)] for cu in CSRC.glob("cuda/*.cu")}
            link = [nvcc, "-shared", "-cudart", "static"]
        objects = map(str, self._compile(commands))
        output.parent.mkdir(parents=True, exist_ok=True)
        run([*link, *objects, f"-L{torch}/lib", *LIBRARIES, "-o", str(output)])
        return f"cpm_repro: built {output.name} with CPU{f' and CUDA ({archs})' if nvcc else ' kernels only'}"

    def _compile(self, commands: dict[Path, list[str]]) -> list[Path]:
        newest_header = max(path.stat().st_mtime for path in CSRC.rglob("*.h"))
        jobs, objects, folder = [], [], Path(self.build_temp).resolve()
        for source, command in sorted(commands.items()):
            target = folder / source.parent.name / (source.name + ".o")
            stamp, full = target.with_suffix(".cmd"), [*command, "-c", str(source), "-o", str(target)]
            objects.append(target)
            same = stamp.exists() and stamp.read_text() == shlex.join(full) and target.exists()
            if not (same and target.stat().st_mtime > max(newest_header, source.stat().st_mtime)):
                target.parent.mkdir(parents=True, exist_ok=True)
                jobs.append((full, stamp))
        with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
            list(pool.map(lambda job: run(*job), jobs))
        return objects


BUILD = os.environ.get("CPM_EXTENSION") != "0"
EXTENSIONS = [Extension("cpm_repro._C", sources=[], py_limited_api=True)] if BUILD else []
ABI3 = {"bdist_wheel": {"py_limited_api": "cp310"}}  # one wheel for every Python from 3.10 on
setup(ext_modules=EXTENSIONS, cmdclass={"build_ext": BuildExtension, "build_py": BuildPackage}, options=ABI3)
