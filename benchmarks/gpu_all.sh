#!/usr/bin/env bash
# Builds, tests and measures everything on a machine with a GPU and writes report.md and a log per part to a folder.
# A part that fails or runs out of time is reported and the rest goes on. Downloads nothing. At most 9 minutes.
#
# Usage: benchmarks/gpu_all.sh FOLDER
# PYTHON (default python3) needs torch, numpy, opencv, scipy, pytest; CuPy if there; nvcc on PATH. CPM_GOLDEN names
# the golden arrays, CPM_DATA a folder with lspet/ for a minute of training.
# GPU_ALL_SECONDS (default 525): when no further part begins.
set -uo pipefail
out=$(realpath -m "${1:?usage: benchmarks/gpu_all.sh FOLDER}")
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
total=${GPU_ALL_SECONDS:-525}
mkdir -p "$out"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
status=0
summary="$out/summary.md"
printf '| part | result | seconds |\n| --- | --- | ---: |\n' >"$summary"

note() {  # note NAME RESULT SECONDS
  echo "| $1 | $2 | $3 |" >>"$summary"
  printf '%-22s %s (%s s)\n' "$1" "$2" "$3"
}

part() {  # part NAME SECONDS COMMAND...
  local name=$1 limit=$2 begin=$SECONDS left=$((total - SECONDS)) code
  shift 2
  if [ "$left" -le 0 ]; then
    note "$name" "NOT RUN: out of time" 0
    status=1
    return 1
  fi
  [ "$limit" -le "$left" ] || limit=$left
  timeout --kill-after=5 "$limit" "$@" >"$out/$name.log" 2>&1
  code=$?
  case $code in
    0) note "$name" ok $((SECONDS - begin)); return 0 ;;
    124 | 137) note "$name" "FAILED: more than $limit s" $((SECONDS - begin)) ;;
    *) note "$name" "FAILED: exit code $code" $((SECONDS - begin)) ;;
  esac
  tail -n 15 "$out/$name.log"
  status=1
  return 1
}

device='import torch; print("%d%d" % torch.cuda.get_device_capability())'
archs=$("$python" -c "$device" 2>"$out/device.log") || { note device "FAILED: torch sees no CUDA device" 0; exit 1; }
part environment 30 "$python" -c 'import json; from cpm_repro.environment import environment; print(json.dumps(environment(), indent=1))'
part build 150 env CPM_CUDA=1 CPM_CUDA_ARCHS="$archs" "$python" setup.py build_ext --inplace
part test_cuda 120 "$python" -m pytest tests/cuda -m gpu -q -rs -p no:cacheprovider
for name in belief_maps fuse_multiscale imresize caffe_sgd training_step inference seven_scales; do
  part "bench_$name" 60 "$python" "benchmarks/$name.py" --device cuda --out "$out/bench_$name.md" --json "$out/bench_$name.json"
done
part parity 40 "$python" benchmarks/parity.py --out "$out/parity.md"
if command -v compute-sanitizer >/dev/null; then
  part sanitizer 90 compute-sanitizer --error-exitcode 1 "$python" -m pytest tests/cuda -m gpu -q -k small -p no:cacheprovider
else
  note sanitizer "not run: compute-sanitizer is not on PATH" 0
fi
if [ -d "${CPM_DATA:-}/lspet" ]; then
  part train 150 "$python" -m cpm_repro train --preset lsp_6stage_modern --data "$CPM_DATA/lspet" --minutes 1 --out "$out/train"
else
  note train "not run: CPM_DATA names no folder with lspet" 0
fi

{
  echo "# Everything on a GPU, $(date -u +%F)"
  echo
  cat "$summary"
  for page in "$out"/parity.md "$out"/bench_*.md "$out"/train/*.md; do
    [ -e "$page" ] && { echo; cat "$page"; }
  done
} >"$out/report.md"
echo "report: $out/report.md"
exit $status
