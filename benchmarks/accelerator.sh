#!/usr/bin/env bash
# Half an hour of an accelerator: what is worth measuring on one, as far as it gets.
#
#   benchmarks/accelerator.sh TEACHER.npz DATA_DIR RUNS [MINUTES]
#   benchmarks/accelerator.sh --dry RUNS     # every part in small, on any machine
#
# TEACHER.npz: a trained resnet32x4 (docs/models.md). DATA_DIR: TensorFlow Datasets'.
# RUNS: folder for states and students; keep it. It ends after MINUTES (28), and the same
# command goes on. Results are written to benchmarks/accelerator/, and from there to
# docs/reproducibility.md. RUNS_AT_ONCE (4): trainings side by side on the card.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if [ "$1" = --dry ]; then
  dry=1 teacher="" data="" runs=$2 minutes=60
else
  dry="" teacher=$1 data=$2 runs=$3 minutes=${4:-28}
fi
results=$here/accelerator
[ -z "$dry" ] || results=$runs/results
at_once=${RUNS_AT_ONCE:-4} failed=0 python=${PYTHON:-python}
# Several processes share the card.
export XLA_PYTHON_CLIENT_PREALLOCATE=false TF_FORCE_GPU_ALLOW_GROWTH=true
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2}
# Half a minute is kept for the report.
end=$(($(date +%s) + 60 * minutes - 30))

until_end() { # command. Interrupts it when the time is over; 124 then.
  local left=$((end - $(date +%s)))
  [ $left -ge 5 ] || return 124
  timeout --signal=INT --kill-after=20 $left "$@"
}

measure() { # name of the results, backend, script, options. Once for each card.
  local name=$1 backend=$2 script=$3 code=0
  shift 3
  local file=$card/$name-$backend.json
  if [ -e "$file" ]; then return; fi
  echo "== $name, $backend"
  KERAS_BACKEND=$backend until_end "$python" "$here/$script" "$@" \
    --output "$file" || code=$?
  if [ $code -ne 0 ] && [ $code -ne 124 ]; then
    echo "FAILED: $name, $backend" && failed=1
  fi
}

train() { # pair, backend, options. A finished run is not repeated.
  local pair=$1 code=0
  shift
  until_end keras-dtkd train --output "$runs/$pair" --verbose 2 "$@" \
    >> "$runs/$pair.log" 2>&1 || code=$?
  case $code in
    0) ;;
    # 130: interrupted; the same command resumes it.
    124 | 130 | 137) return 0 ;;
    *) echo "FAILED: keras-dtkd train $*: $runs/$pair.log" && return 1 ;;
  esac
}
export -f train until_end
export runs end

is_installed() { # modules
  "$python" -c 'import sys, importlib.util as i
sys.exit(not all(map(i.find_spec, sys.argv[1:])))' "$@"
}

backends=()
for backend in jax torch tensorflow; do
  if is_installed $backend; then backends+=("$backend"); fi
done
card=$("$python" - "${backends[0]}" << 'PYTHON'
import os, re, sys
os.environ["KERAS_BACKEND"] = sys.argv[1]
from keras_dtkd import backend
print(re.sub(r"\W+", "-", backend.device_info()[0].lower()).strip("-"))
PYTHON
)
if [ "$card" = cpu ] && [ -z "$dry" ]; then
  echo "No accelerator was found. --dry runs every part in small." >&2
  exit 2
fi
card=$results/$card
mkdir -p "$runs" "$card"

if [ -n "$dry" ]; then
  timing=(--batches 16 --steps 1 --rounds 1)
  chunks=(--vocabularies 1000 --tokens 128 --chunk-size 64 --calls 1)
  rollout=(--batches 2 --steps 1 --length 12)
  study=(--data digits --epochs 1 --train-size 128) seeds="0" pretraining=(--epochs 1)
else
  timing=(--batches 16 64 512 --steps 60 40 10 --rounds 5)
  chunks=(--liger)
  rollout=(--layers 12 4 --width 768 --heads 12 --vocabulary 32000 --length 128)
  study=(--data cifar100 --data-dir "$data") seeds="0 1 2" pretraining=()
fi

# 1. A step, on every backend.
for precision in float32 bfloat16; do
  for backend in "${backends[@]}"; do
    measure "step_time_$precision" "$backend" step_time.py "${timing[@]}" \
      --precision $precision
  done
done
# 2. Large vocabularies, at the sizes of Liger's figures; 3. rollouts.
for backend in "${backends[@]}"; do
  measure chunked_divergence "$backend" chunked_divergence.py "${chunks[@]}"
  measure rollout_speed "$backend" rollout_speed.py "${rollout[@]}" \
    --precision bfloat16
done

# 4. CIFAR-100 in full length: all methods of a seed, then the next seed; pair by pair.
methods="ce kd ce_4kd dtkd dtkd_loose dtkd_published dkd dist"
pairs="resnet32x4:resnet8x4 resnet56:resnet20 wrn_40_2:shufflev1"
backend=${backends[0]}
if [ -n "$dry" ]; then
  # PyTorch compiles nothing.
  methods="ce kd dtkd" backend=${backends[1]:-$backend}
fi
compile=""
if [ "$backend" = torch ] && [ -z "$dry" ]; then compile=--torch-compile; fi

weights() { # teacher. The file or folder of its weights.
  if [ "$1" = resnet32x4 ] && [ -z "$dry" ]; then
    echo "$teacher"
  else
    echo "$runs/teachers/${study[1]}/$1/ce/$backend-seed0"
  fi
}

jobs() { # A line for each run.
  local pair network student seed method
  for pair in $pairs; do
    network=${pair%:*} student=${pair#*:}
    [ -e "$(weights "$network")" ] || continue
    for seed in $seeds; do
      for method in $methods; do
        echo "$network-$student --backend $backend ${study[*]} $compile --student $student" \
          "--teacher $network --teacher-weights $(weights "$network")" \
          "--method $method --seed $seed"
      done
    done
  done
}

side_by_side() { # Lines of arguments of `train`.
  xargs -P "$at_once" -L 1 bash -c 'train "$@"' train || failed=1
}

if is_installed tensorflow tensorflow_datasets filelock; then
  echo "== trainings"
  pretrained="resnet56 wrn_40_2"
  [ -z "$dry" ] || pretrained="resnet32x4 $pretrained"
  # The pair whose teacher is at hand comes first.
  [ -n "$dry" ] || jobs | side_by_side
  for network in $pretrained; do
    echo "teachers --backend $backend ${study[*]} ${pretraining[*]} $compile" \
      "--student $network --method ce --seed 0"
  done | side_by_side
  jobs | side_by_side
  for pair in $pairs; do
    folder=${pair%:*}-${pair#*:}
    [ -d "$runs/$folder" ] || continue
    (cd "$runs/$folder" && find . -name run.json) | while read -r file; do
      mkdir -p "$results/runs/$(dirname "$file")"
      cp "$runs/$folder/$file" "$results/runs/$file"
    done
  done
else
  echo "Trainings are left out: pip install 'keras-dtkd[cli]'"
fi

[ -n "$dry" ] || "$python" "$here/fill_reproducibility.py"
exit $failed
