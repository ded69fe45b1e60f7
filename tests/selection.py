"""Which tests run on which backend. Imports no backend."""

import os

# What does not depend on the backend is tested on this one: PyTorch starts fastest.
SINGLE_BACKEND = "torch"
# `KERAS_DTKD_TESTS=all` runs everything everywhere, traced.
RUNS_ALL_EVERYWHERE = os.environ.get("KERAS_DTKD_TESTS") == "all"
RUNS_EVERYTHING = (
    RUNS_ALL_EVERYWHERE or os.environ.get("KERAS_BACKEND") == SINGLE_BACKEND
)
