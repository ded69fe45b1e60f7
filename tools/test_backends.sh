#!/usr/bin/env bash
# The test suite once on each backend, whatever the others did. Arguments go to pytest.
set -uo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
log=$(mktemp)
cache=$(mktemp -d)
trap 'rm -rf "$log" "$cache"' EXIT
# Most of JAX's time here is compiling, much of it the same small networks again.
export JAX_COMPILATION_CACHE_DIR=$cache
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
summary=
status=0

for backend in tensorflow jax torch; do
  printf '\n--- tests on %s\n' "$backend"
  KERAS_BACKEND=$backend "$python" -m pytest tests -n 2 --dist loadfile "$@" | tee "$log"
  code=$?
  [ "$code" -eq 0 ] || status=1
  # pytest's closing line; a crash leaves none.
  counts=$(grep -E ' in [0-9.]+s' "$log" | tail -n 1 | sed 's/^=* *//; s/ *=*$//')
  summary+=$(printf '%-11s %s (exit %s)' "$backend" "${counts:-crashed}" "$code")$'\n'
done

printf '\n--- tests on all backends\n%s' "$summary"
exit "$status"
