#!/usr/bin/env bash
# Compiles every CUDA kernel for all supported architectures and the newest one's PTX. Warnings and register
# spills are errors. Needs nvcc but no GPU. Usage: csrc/check_cuda.sh [ARCH...]   (default: all)
set -euo pipefail
cd "$(dirname "$0")"
nvcc=${CPM_NVCC:-nvcc}
command -v "$nvcc" >/dev/null || { echo "check_cuda: skipped, nvcc not found"; exit 0; }
archs=("$@")
[ ${#archs[@]} -gt 0 ] || archs=(75 80 86 89 90 100 120)
newest=${archs[-1]}
flags=(-std=c++17 -O3 -fmad=false --expt-relaxed-constexpr -Werror=all-warnings -Xptxas -v -Xcompiler -fPIC)
for arch in "${archs[@]}"; do flags+=("-gencode=arch=compute_$arch,code=sm_$arch"); done
flags+=("-gencode=arch=compute_$newest,code=compute_$newest")
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for source in cuda/*.cu; do
  if ! "$nvcc" "${flags[@]}" -c "$source" -o "$out/kernel.o" >"$out/log" 2>&1; then
    cat "$out/log"; echo "check_cuda: $source does not compile"; exit 1
  fi
  if grep -E '[1-9][0-9]* bytes spill' "$out/log"; then
    echo "check_cuda: $source spills registers"; exit 1
  fi
  kernels=$(grep -c 'Compiling entry function' "$out/log" || true)
  echo "check_cuda: $source ok, $kernels kernels over ${#archs[@]} architectures, most registers $(grep -oE 'Used [0-9]+' "$out/log" | sort -k2 -n | tail -1 | cut -d' ' -f2)"
done
