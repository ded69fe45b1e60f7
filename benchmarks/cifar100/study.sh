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

# shellcheck source=benchmarks/cifar100/functions.sh
source "$here/functions.sh"

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
  compare warm --train-size 10000 --epochs 15 --seeds 3 --methods ce kd ce_4kd $forms
  compare warm --train-size 10000 --epochs 15 --seeds 3 --methods ce kd ce_4kd $others
  compare cold --train-size 10000 --epochs 15 --seeds 3 --methods $cold --warmup 0
  compare late --train-size 10000 --epochs 15 --seeds 3 --methods $late --warmup 5
  compare backends --train-size 10000 --epochs 4 --seeds 3 --methods ce kd dtkd \
    --backends tensorflow jax torch
}
collect warm study/warm
collect cold study/cold
collect late study/late
collect backends backends
keras-dtkd report "$here/study" || failed=1
keras-dtkd report "$here/backends" || failed=1
exit $failed
