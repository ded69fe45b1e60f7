#!/usr/bin/env bash
# Runs the test suite on each backend, also after a failure. Arguments go to pytest.
set -uo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
log=$(mktemp)
cache=$(mktemp -d)
trap 'rm -rf "$log" "$cache"' EXIT
# JAX spends most of its time compiling, often the same small networks: share a cache.
export JAX_COMPILATION_CACHE_DIR=$cache
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
# Half of its compiling is the fusing of operations: nothing is gained in tiny programs.
# XLA dies of a flag that it does not know, and some versions do not know these.
quick="--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
XLA_FLAGS=$quick "$python" -c 'import jax; jax.devices()' 2>/dev/null || quick=
summary=
status=0

for backend in tensorflow jax torch; do
  printf '\n--- tests on %s\n' "$backend"
  flags=
  [ "$backend" = jax ] && flags=$quick
  KERAS_BACKEND=$backend XLA_FLAGS="${XLA_FLAGS:-} $flags" \
    "$python" -m pytest tests -n 2 --dist loadfile --no-loadscope-reorder \
    --durations=12 --durations-min=4 "$@" | tee "$log"
  code=$?
  [ "$code" -eq 0 ] || status=1
  # pytest's last line; missing after a crash.
  counts=$(grep -E ' in [0-9.]+s' "$log" | tail -n 1 | sed 's/^=* *//; s/ *=*$//')
  summary+=$(printf '%-11s %s (exit %s)' "$backend" "${counts:-crashed}" "$code")$'\n'
done

printf '\n--- tests on all backends\n%s' "$summary"
exit "$status"
