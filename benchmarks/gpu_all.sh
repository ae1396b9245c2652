#!/usr/bin/env bash
# Builds, tests and measures everything on a machine with a GPU and writes report.md and a log per part to a folder.
# A part that fails or runs out of time is reported and the rest goes on. Downloads nothing. At most 9 minutes.
#
# Usage: benchmarks/gpu_all.sh FOLDER
# PYTHON (default python3) needs torch, numpy, opencv, scipy, pytest; CuPy if there; nvcc on PATH. CPM_GOLDEN names
# the golden arrays, CPM_DATA a folder with lspet/ for a short training run.
# GPU_ALL_SECONDS (default 525): when no further part begins. GPU_ALL_LIMIT: seconds for every part instead of its own
# and what the parts before it left.
# GPU_ALL_DEVICE=cpu: a rehearsal without a GPU, in small sizes, whose numbers mean nothing.
set -uo pipefail
out=$(realpath -m "${1:?usage: benchmarks/gpu_all.sh FOLDER}")
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
total=${GPU_ALL_SECONDS:-525}
mkdir -p "$out"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
device=${GPU_ALL_DEVICE:-cuda}
status=0 planned=0 failed=()
summary="$out/summary.md"
printf '| part | result | seconds |\n| --- | --- | ---: |\n' >"$summary"

report() {  # after every part, so that what is there is reported whatever happens next
  local page name
  {
    echo "# Everything on a GPU, $(date -u +%F)"
    echo
    [ "$device" = cuda ] || printf '**A rehearsal on a CPU: its numbers mean nothing.**\n\n'
    cat "$summary"
    for page in "$out"/test_*.log; do  # a part whose tests were skipped is ok, too
      [ -e "$page" ] && printf '\n%s:\n\n```\n%s\n```\n' "$(basename "$page" .log)" "$(grep -E '^SKIPPED|^=+ .* in [0-9.]+s' "$page")"
    done
    for page in "$out"/bench_*.md "$out"/parity.md "$out"/train/*.md; do
      [ -e "$page" ] && { echo; cat "$page"; }
    done
    for name in "${failed[@]}"; do
      printf '\n## %s: the last lines of its log\n\n```\n' "$name"
      tail -n 40 "$out/$name.log"
      echo '```'
    done
  } >"$out/report.md.new"
  mv "$out/report.md.new" "$out/report.md"
}

note() {  # note NAME RESULT SECONDS
  echo "| $1 | $2 | $3 |" >>"$summary"
  printf '%-22s %s (%s s)\n' "$1" "$2" "$3"
  report
}

part() {  # part NAME SECONDS COMMAND...
  local name=$1 own=$2 begin=$SECONDS left=$((total - SECONDS)) limit code
  shift 2
  planned=$((planned + own))
  limit=$((planned - SECONDS))  # its own time, and what the parts before it left of theirs
  [ "$limit" -ge "$own" ] || limit=$own
  limit=${GPU_ALL_LIMIT:-$limit}
  if [ "$left" -le 0 ]; then
    note "$name" "NOT RUN: out of time" 0
    status=1
    return 1
  fi
  [ "$limit" -le "$left" ] || limit=$left
  timeout --kill-after=3 "$limit" "$@" >"$out/$name.log" 2>&1
  code=$?
  [ "$code" = 0 ] || failed+=("$name")
  case $code in
    0) note "$name" ok $((SECONDS - begin)); return 0 ;;
    124 | 137) note "$name" "FAILED: more than $limit s" $((SECONDS - begin)) ;;
    *) note "$name" "FAILED: exit code $code" $((SECONDS - begin)) ;;
  esac
  tail -n 15 "$out/$name.log"
  status=1
  return 1
}

bench() {  # bench NAME SECONDS
  part "bench_$1" "$2" "$python" "benchmarks/$1.py" "${sizes[@]}" --device "$device" --out "$out/bench_$1.md" --json "$out/bench_$1.json"
}

sizes=() build=() small=(--minutes 0.3)
if [ "$device" = cuda ]; then
  capability='import torch; print("%d%d" % torch.cuda.get_device_capability())'
  limit=${GPU_ALL_LIMIT:-60}  # a broken driver answers with silence
  archs=$(timeout --kill-after=3 "$limit" "$python" -c "$capability" 2>"$out/device.log")
  case $? in
    0) ;;
    124 | 137) note device "FAILED: no answer in $limit s" $SECONDS; exit 1 ;;
    *) note device "FAILED: torch sees no CUDA device" $SECONDS; exit 1 ;;
  esac
  build=(CPM_CUDA=1 CPM_CUDA_ARCHS="$archs")
else
  sizes=(--quick)
  small=(--iterations 3 --set network.width=0.05 --set augment.crop=64 --batch 4)
fi

test_part() {  # test_part NAME SECONDS FILE...
  local name=$1 limit=$2
  shift 2
  # Each test is named when it ends: the log of a part that runs out of time tells which have passed.
  part "test_$name" "$limit" "$python" -m pytest "$@" -m gpu -vv -rs -p no:cacheprovider
}

# The times add up to GPU_ALL_SECONDS; what matters most comes first.
part environment 15 "$python" -c 'import json; from cpm_repro.environment import environment; print(json.dumps(environment(), indent=1))'
part build 40 env "${build[@]}" "$python" setup.py build_ext --inplace
test_part cuda 60 tests/cuda/test_cuda_ops.py tests/data/test_data_device.py tests/training/test_training_{checkpoint_writer,prefetch}.py
bench belief_maps 35
bench fuse_multiscale 35
# cuDNN measures its algorithms in the first updates of a network, and Triton compiles: neither may take the others' time.
test_part training 60 tests/cuda/test_cuda_training.py
bench training_step 60
test_part inference 50 tests/cuda/test_cuda_inference.py
bench seven_scales 30
bench inference 30
bench imresize 15
bench caffe_sgd 15
part parity 15 "$python" benchmarks/parity.py --out "$out/parity.md"
if [ "$device" = cuda ] && command -v compute-sanitizer >/dev/null; then
  # Memory in the small tests of the extension (CuPy compiles the same kernels, slowly under a sanitizer); in what is left
  # of the time, races in those whose kernels share memory.
  part sanitizer 25 bash -c '
    export PYTORCH_NO_CUDA_MEMORY_CACHING=1  # small tensors otherwise share blocks of 2 MB, in which nothing is out of bounds
    small=(-m pytest tests/cuda -m gpu -q -p no:cacheprovider -k)
    compute-sanitizer --error-exitcode 1 "$1" "${small[@]}" "small and not cupy" &&
      compute-sanitizer --tool racecheck --error-exitcode 1 "$1" "${small[@]}" "small and not cupy and (stages or losses or peaks)"
  ' sanitizer "$python"
else
  note sanitizer "not run: compute-sanitizer is not on PATH, or a rehearsal" 0
fi
if [ -d "${CPM_DATA:-}/lspet" ]; then
  part train 40 "$python" -m cpm_repro train --preset lsp_6stage_minutes --data "$CPM_DATA/lspet" "${small[@]}" \
    --set validate_every=1.0 --set validate_people=100 --workers 4 --out "$out/train"
else
  note train "not run: CPM_DATA names no folder with lspet" 0
fi
echo "report: $out/report.md"
exit $status
