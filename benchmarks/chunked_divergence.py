"""Memory and time of `chunked_divergence` and of the plain form.

    KERAS_BACKEND=jax python benchmarks/chunked_divergence.py
    KERAS_BACKEND=torch python benchmarks/chunked_divergence.py --liger

Value and gradients of a divergence of two language models from their last hidden
states: the plain form makes all logits. Each form runs in a process of its own. On a
CPU its memory is the peak of the process less that before the first call, and time is
processor time; on an accelerator, the device's peak less the inputs, and time by the
clock; a median of calls after the first. `--liger` has the sizes of Liger-Kernel's
benchmark, and prints its published figures.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

# Before a backend is imported: the processes of the forms share the device.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

import numpy as np
from keras import ops

from keras_dtkd import backend
from keras_dtkd.functional import divergences
from keras_dtkd.functional.chunked import (
    chunked_cross_entropy,
    chunked_divergence,
)
from keras_dtkd.functional.statistics import soft_log_probs

FORMS = "plain", "chunked"

# Liger-Kernel's `distill_jsd_loss` on an H100 (benchmark/data/all_benchmark_data.csv,
# versions 0.4.x): half cross-entropy, half JSD. Its memory includes the inputs.
LIGER = {
    "widths": [2048, 4096],
    "vocabularies": [128_256],
    "tokens": [1024, 2048, 4096, 8192],
    "chunk_size": 1024,
    "dtype": "bfloat16",
    "loss": "ce_jsd",
}
LIGER_FIGURES = """Published by Liger-Kernel (NVIDIA H100 80GB HBM3, 2024-12):

| tokens | its form, MiB | its form, ms | PyTorch, MiB | PyTorch, ms |
|---|---|---|---|---|
| 1,024 | 10,914 | 8.3 | 16,174 | 28.7 |
| 2,048 | 10,942 | 15.8 | 23,713 | 54.3 |
| 4,096 | 10,998 | 30.9 | 38,791 | 107.1 |
| 8,192 | 11,110 | 60.7 | 68,947 | 213.2 |
"""


def evaluate_plainly(loss, student, embedding, teacher, teacher_embedding, labels):
    """The same loss from all logits."""
    logits = (
        ops.matmul(hidden, ops.transpose(table))
        for hidden, table in ((student, embedding), (teacher, teacher_embedding))
    )
    # As the library does, whose losses are float32.
    log_q, log_p = (soft_log_probs(ops.cast(z, "float32")) for z in logits)
    if loss == "kl":
        return ops.mean(divergences.kl(log_p, log_q))
    picked = ops.take_along_axis(log_q, labels[:, None], axis=-1)
    jsd = divergences.generalized_jsd(log_p, log_q, 0.5, "gkd")
    return 0.5 * ops.mean(jsd) - 0.5 * ops.mean(picked)


def evaluate_in_chunks(loss, chunk_size, *arrays):
    """The loss as `Distiller(chunk_size=...)` computes it."""
    *arrays, labels = arrays
    if loss == "kl":
        return chunked_divergence(*arrays, chunk_size=chunk_size)
    jsd = chunked_divergence(*arrays, divergence="jsd", chunk_size=chunk_size)
    labelled = chunked_cross_entropy(*arrays[:2], labels, chunk_size=chunk_size)
    return 0.5 * jsd + 0.5 * labelled


def make_step(form, loss, chunk_size):
    """A compiled function of the arrays: the value and the student's gradients."""

    def value(*arrays):
        if form == "plain":
            return evaluate_plainly(loss, *arrays)
        return evaluate_in_chunks(loss, chunk_size, *arrays)

    if backend.backend_name() == "jax":
        import jax

        return jax.jit(jax.value_and_grad(value, argnums=(0, 1)))
    if backend.backend_name() == "tensorflow":
        import tensorflow as tf

        @tf.function
        def step(*arrays):
            with tf.GradientTape() as tape:
                tape.watch(arrays[:2])
                result = value(*arrays)
            return result, tape.gradient(result, arrays[:2])

        return step

    def step(*arrays):
        student = [array.detach().requires_grad_() for array in arrays[:2]]
        result = value(*student, *arrays[2:])
        result.backward()
        return result, [array.grad for array in student]

    return step


def process_memory():
    """Memory of this process now, bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def peak_memory():
    """Peak memory of the accelerator, or else of this process, bytes."""
    peak = backend.device_info()[1]
    return peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(form, vocabulary, tokens, options):
    """Measures one form in this process, and prints a dict as JSON."""
    rng, arrays, size = np.random.default_rng(0), [], 0
    for width in options.widths:
        for rows in (tokens, vocabulary):
            array = rng.standard_normal((rows, width), dtype="float32")
            array *= width**-0.5
            arrays.append(ops.convert_to_tensor(array, options.dtype))
            size += array.size * (2 if options.dtype == "bfloat16" else 4)
            del array
    arrays.append(ops.convert_to_tensor(rng.integers(vocabulary, size=tokens)))
    step = make_step(form, options.loss, options.chunk_size)
    on_device = backend.device_info()[1] is not None
    before, seconds = size if on_device else process_memory(), []
    floor = peak_memory()
    for _ in range(options.calls + 1):
        start = time.perf_counter(), time.process_time()
        value, gradients = step(*arrays)
        norms = [
            float(ops.convert_to_numpy(ops.norm(ops.cast(g, "float32"))))
            for g in gradients
        ]
        seconds.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, processor = (
        statistics.median(values) for values in zip(*seconds[1:], strict=True)
    )
    value = float(ops.convert_to_numpy(ops.cast(value, "float32")))
    result = {"value": value, "gradient_norms": norms}
    result |= {"bytes": peak_memory() - before, "input_bytes": size}
    if peak_memory() == floor:
        sys.exit("To make the inputs took more memory than the loss. Take more tokens.")
    print(json.dumps({**result, "seconds": wall, "cpu_seconds": processor}))


def run(form, vocabulary, tokens, options):
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--form", form, "--loss", options.loss]
    command += ["--vocabularies", vocabulary, "--tokens", tokens]
    command += ["--widths", *options.widths, "--dtype", options.dtype]
    command += ["--chunk-size", options.chunk_size, "--calls", options.calls]
    result = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    if result.returncode:
        return None
    return json.loads(result.stdout.splitlines()[-1])


def main():
    from machine import environment_info, save

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--vocabularies", type=int, nargs="+", default=[32_000, 128_000]
    )
    parser.add_argument("--tokens", type=int, nargs="+", default=[1536])
    parser.add_argument(
        "--widths", type=int, nargs=2, default=[512, 1024], help="student, teacher"
    )
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument(
        "--loss", choices=["kl", "ce_jsd"], default="kl", help="ce_jsd: half each"
    )
    parser.add_argument("--chunk-size", type=int, default=256)
    parser.add_argument("--calls", type=int, default=3)
    parser.add_argument("--liger", action="store_true", help="Liger's sizes")
    parser.add_argument("--form", choices=FORMS, help="measure it in this process")
    parser.add_argument("--output", type=Path, help="the JSON file of the results")
    options = parser.parse_args()
    if options.form:
        measure(options.form, options.vocabularies[0], options.tokens[0], options)
        return
    if options.liger:
        vars(options).update(LIGER)
    settings = {k: v for k, v in vars(options).items() if k not in ("form", "output")}
    result = {**environment_info(), **settings, "results": []}
    clock = "cpu_seconds" if result["device"] == "cpu" else "seconds"
    title = "CPU time, ms" if clock == "cpu_seconds" else "ms"
    print(f"| vocabulary | tokens | form | peak, MiB | {title} | ÷ plain | ÷ plain |")
    print("|---|---|---|---|---|---|---|")
    for vocabulary, tokens in itertools.product(options.vocabularies, options.tokens):
        found = {form: run(form, vocabulary, tokens, options) for form in FORMS}
        line = {"vocabulary": vocabulary, "tokens": tokens, **found}
        result["results"].append(line)
        for form, values in found.items():
            cells = [f"{vocabulary:,}", f"{tokens:,}", form]
            if values is None:
                cells += ["failed, see above", "", "", ""]
            else:
                cells.append(f"{values['bytes'] / 2**20:,.0f}")
                cells.append(f"{1000 * values[clock]:,.1f}")
                for key in ("bytes", clock):
                    plain = found["plain"]
                    cells.append(f"{values[key] / plain[key]:.2f}" if plain else "")
            print(f"| {' | '.join(cells)} |")
    if options.liger:
        print(f"\n{LIGER_FIGURES}")
    if any(line["chunked"] is None for line in result["results"]):
        sys.exit("Not saved: a form failed, see above.")
    name = "chunked_divergence_liger" if options.liger else "chunked_divergence"
    save(result, name, options.output)


if __name__ == "__main__":
    main()
