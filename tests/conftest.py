"""Settings that make many tiny models fast. Read before any backend is imported."""

import os

# The programs are tiny: compiling them well takes longer than running them.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Without it TensorFlow's CPU kernels know no `channels_first`, and TensorFlow leaves it
# off on processors without AVX-512.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
