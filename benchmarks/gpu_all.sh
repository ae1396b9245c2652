#!/usr/bin/env bash
# Builds, tests and benchmarks everything on a machine with a GPU, and writes the report to a folder.
# Usage: benchmarks/gpu_all.sh FOLDER     (PYTHON=python3 by default; needs torch, nvcc and pytest, no download)
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:?usage: benchmarks/gpu_all.sh FOLDER}")
python=${PYTHON:-python3}
mkdir -p "$out"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
status=0
step() {  # step NAME SECONDS COMMAND...
  local name=$1 limit=$2 begin=$SECONDS
  shift 2
  if timeout "$limit" "$@" >"$out/$name.log" 2>&1; then
    echo "ok     $name ($((SECONDS - begin)) s)" | tee -a "$out/summary.txt"
  else
    echo "FAILED $name ($((SECONDS - begin)) s)" | tee -a "$out/summary.txt"
    tail -n 15 "$out/$name.log"
    status=1
  fi
}
: >"$out/summary.txt"
archs=$("$python" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())') || { echo "no CUDA device for torch"; exit 1; }
step build 120 env CPM_CUDA=1 CPM_CUDA_ARCHS="$archs" "$python" setup.py build_ext --inplace
step test_cuda 150 "$python" -m pytest tests/cuda -m "gpu" -q -rs
command -v compute-sanitizer >/dev/null &&
  step sanitizer 90 compute-sanitizer --error-exitcode 1 "$python" -m pytest tests/cuda -m gpu -q -k "small"
for name in belief_maps fuse_multiscale imresize; do
  step "bench_$name" 60 "$python" "benchmarks/$name.py" --out "$out/$name.md"
done
cat "$out"/*.md 2>/dev/null
exit $status
