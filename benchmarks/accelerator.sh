#!/usr/bin/env bash
# What is worth measuring on an accelerator, at most 28 minutes at a time; the same
# command continues.
#
#   benchmarks/accelerator.sh TEACHER.npz DATA_DIR RUNS [--minutes 28]
#   benchmarks/accelerator.sh --dry RUNS     # all parts in small, on any machine
exec "${PYTHON:-python}" "$(dirname "$0")/accelerator.py" "$@"
