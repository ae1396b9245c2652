#!/usr/bin/env bash
# Compiles every CUDA kernel for all supported architectures and the newest one's PTX, as many files at once as
# there are cores. Warnings and register spills are errors. Needs nvcc but no GPU.
# Usage: csrc/check_cuda.sh [ARCH...]   (default: all)
set -euo pipefail
cd "$(dirname "$0")"
export NVCC=${CPM_NVCC:-nvcc}
command -v "$NVCC" >/dev/null || { echo "check_cuda: skipped, nvcc not found"; exit 0; }
archs=("$@")
[ ${#archs[@]} -gt 0 ] || archs=(75 80 86 89 90 100 120)
newest=${archs[-1]}
FLAGS="-std=c++17 -O3 -fmad=false --expt-relaxed-constexpr -Werror=all-warnings -Xptxas -v -Xcompiler -fPIC"
for arch in "${archs[@]}"; do FLAGS+=" -gencode=arch=compute_$arch,code=sm_$arch"; done
FLAGS+=" -gencode=arch=compute_$newest,code=compute_$newest"
OUT=$(mktemp -d)
trap 'rm -rf "$OUT"' EXIT
export FLAGS OUT ARCHS=${#archs[@]}

check_one() {
  local log="$OUT/$(basename "$1").log"
  # shellcheck disable=SC2086 (the flags are words)
  if ! "$NVCC" $FLAGS -c "$1" -o "$OUT/$(basename "$1").o" >"$log" 2>&1; then
    cat "$log"; echo "check_cuda: $1 does not compile"; return 1
  fi
  if grep -E '[1-9][0-9]* bytes spill' "$log"; then
    echo "check_cuda: $1 spills registers"; return 1
  fi
  local kernels registers
  kernels=$(grep -c 'Compiling entry function' "$log" || true)
  registers=$(grep -oE 'Used [0-9]+' "$log" | sort -k2 -n | tail -1 | cut -d' ' -f2)
  echo "check_cuda: $1 ok, $kernels kernels over $ARCHS architectures, most registers $registers"
}
export -f check_one

printf '%s\n' cuda/*.cu | xargs -P "$(nproc)" -I{} bash -c 'check_one {}'
