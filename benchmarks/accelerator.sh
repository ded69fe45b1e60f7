#!/usr/bin/env bash
# What is worth measuring on an accelerator, at most 28 minutes at a time; the same
# command continues.
#
#   benchmarks/accelerator.sh TEACHER.npz DATA_DIR RUNS [--minutes 28]
#   benchmarks/accelerator.sh --dry RUNS     # all parts in small, on any machine
here=$(cd "$(dirname "$0")" && pwd)
# The scripts find the package without an installation too.
export PYTHONPATH=${here%/*}${PYTHONPATH:+:$PYTHONPATH}
python=$(command -v python || command -v python3)
exec "${PYTHON:-$python}" "$here/accelerator.py" "$@"
