#!/usr/bin/env bash
# Tests the wheel in a new environment with only one backend. PYTHON must have `build`.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
here=$PWD
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# A source tree on the path would hide files that are missing in the wheel.
unset PYTHONPATH

"$python" -m build --outdir "$tmp/dist" .
wheel=$(echo "$tmp"/dist/*.whl)

"$python" - "$wheel" <<'PY'
import re, sys, zipfile

names = zipfile.ZipFile(sys.argv[1]).namelist()
strays = [n for n in names if not re.match(r"keras_dtkd(/|-[^/]*\.dist-info/)", n)]
assert not strays, f"the wheel has files outside of the package: {strays}"
assert "keras_dtkd/py.typed" in names, "the wheel lacks keras_dtkd/py.typed"
assert any(n.endswith("licenses/LICENSE") for n in names), "the wheel lacks LICENSE"
PY

"$python" -m venv "$tmp/venv"
"$tmp/venv/bin/python" -m pip install --quiet "$wheel[jax]" scikit-learn matplotlib

export KERAS_BACKEND=jax TF_ENABLE_ONEDNN_OPTS=1
cd "$tmp"
venv/bin/python - <<'PY'
import importlib.util
import sys

for name in ("tensorflow", "torch"):
    assert importlib.util.find_spec(name) is None, f"{name} is installed"
import keras_dtkd

assert keras_dtkd.__file__.startswith(sys.prefix), keras_dtkd.__file__
print("keras_dtkd", keras_dtkd.__version__, "with JAX alone")
PY
MPLBACKEND=agg KERAS_DTKD_QUICK=1 venv/bin/python "$here/examples/quickstart.py"
