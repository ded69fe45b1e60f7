"""Which tests run on which backend. Imports no backend."""

import os

# What does not depend on the backend is tested on this one: PyTorch starts fastest.
SINGLE_BACKEND = "torch"
# `KERAS_DTKD_TESTS=all` runs everything everywhere, traced.
RUNS_ALL_EVERYWHERE = os.environ.get("KERAS_DTKD_TESTS") == "all"
# XLA compiles slowly under TensorFlow: for tests that are no matter of it.
IS_TENSORFLOW = os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow"
JIT_COMPILE = False if IS_TENSORFLOW and not RUNS_ALL_EVERYWHERE else "auto"
RUNS_EVERYTHING = (
    RUNS_ALL_EVERYWHERE or os.environ.get("KERAS_BACKEND") == SINGLE_BACKEND
)
