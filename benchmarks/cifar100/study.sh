#!/usr/bin/env bash
# The study on CIFAR-100 that two CPU cores can finish. The same command resumes it.
#
#   benchmarks/cifar100/study.sh TEACHER.npz DATA_DIR RUNS
#
# TEACHER.npz: a trained resnet32x4 (docs/models.md). DATA_DIR: TensorFlow Datasets'.
# RUNS: folder for students, states and teacher outputs; run.json files are copied from
# it to this folder, and the tables are computed from these.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
teacher=$1 data=$2 runs=$3

forms="dtkd dtkd_loose dtkd_published dtkd_max dtkd_max_weight dtkd_max_all
  dtkd_centered dtkd_centered_weight dtkd_centered_all
  dtkd_std dtkd_std_weight dtkd_std_all"
others="dkd ce_9kd dist cskd cswt ctkd ls kd_9 ckd logit_mse gjsd tv"
cold="dtkd dtkd_loose dtkd_published"
late="dtkd_loose dtkd_published"

failed=0
compare() { # folder, options. A failure does not stop the study; run it again.
  local out=$1
  shift
  keras-dtkd compare --data cifar100 --data-dir "$data" --teacher resnet32x4 \
    --student resnet8 --teacher-weights "$teacher" --train-size 10000 \
    --validation 0.04 --augmentations-per-image 4 --output "$runs/$out" "$@" || failed=1
}

collect() { # from, to
  local from="$runs/$1/cifar100/resnet32x4-resnet8"
  [ -d "$from" ] || return 0
  (cd "$from" && find . -name run.json) | while read -r file; do
    mkdir -p "$here/$2/$(dirname "$file")"
    cp "$from/$file" "$here/$2/$file"
  done
}

restore() { # from, to: finished runs are not repeated
  local to="$runs/$2/cifar100/resnet32x4-resnet8"
  [ -d "$here/$1" ] || return 0
  (cd "$here/$1" && find . -name run.json) | while read -r file; do
    [ -e "$to/$file" ] && continue
    mkdir -p "$to/$(dirname "$file")"
    cp "$here/$1/$file" "$to/$file"
  done
}

export KERAS_BACKEND=tensorflow
restore study/warm warm
restore study/cold cold
restore study/late late
restore backends backends
# All parts share one folder of teacher outputs.
for part in cold late backends; do
  mkdir -p "$runs/warm/cifar100/teacher_outputs" "$runs/$part/cifar100"
  ln -sfn ../../warm/cifar100/teacher_outputs "$runs/$part/cifar100/teacher_outputs"
done
# shellcheck disable=SC2086
{
  compare warm --epochs 15 --seeds 3 --methods ce kd ce_4kd $forms
  compare warm --epochs 15 --seeds 3 --methods ce kd ce_4kd $others
  compare cold --epochs 15 --seeds 3 --methods $cold --warmup 0
  compare late --epochs 15 --seeds 3 --methods $late --warmup 5
  compare backends --epochs 4 --seeds 3 --methods ce kd dtkd \
    --backends tensorflow jax torch
}
collect warm study/warm
collect cold study/cold
collect late study/late
collect backends backends
keras-dtkd report "$here/study" || failed=1
keras-dtkd report "$here/backends" || failed=1
exit $failed
