#!/usr/bin/env bash
# Is DTKD better than its control where training is long? All images, many epochs.
#
#   benchmarks/cifar100/long.sh TEACHER.npz DATA_DIR RUNS
#
# One thread at low priority, for days in the background: the same command resumes it.
# Arguments as in study.sh. A seed of all methods comes before the next seed. METHODS:
# some of them, for several processes side by side; EPOCHS: 20.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
teacher=$1 data=$2 runs=$3
# shellcheck source=benchmarks/cifar100/functions.sh
source "$here/functions.sh"

renice -n 19 $$ > /dev/null
export KERAS_BACKEND=${KERAS_BACKEND:-torch} OMP_NUM_THREADS=1
export TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
methods=${METHODS:-ce kd ce_4kd dtkd dtkd_loose dtkd_published dkd dist}

restore long long
for seeds in 1 2 3; do
  # shellcheck disable=SC2086
  compare long --epochs "${EPOCHS:-20}" --seeds $seeds --methods $methods --torch-compile
  collect long long
done
keras-dtkd report "$here/long" || failed=1
exit $failed
