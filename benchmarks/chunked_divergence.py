"""Memory and time of `chunked_divergence` and of the plain form, on CPU.

    KERAS_BACKEND=jax python benchmarks/chunked_divergence.py

Value and gradients of the KL divergence of two language models from their last hidden
states: the plain form makes all logits. Each form runs in a process of its own; its
memory is the peak of the process less that before the first call. Time is processor
time, a median of calls after the first.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from keras import ops

from keras_dtkd import backend
from keras_dtkd.functional import divergences
from keras_dtkd.functional.chunked import chunked_divergence
from keras_dtkd.functional.statistics import soft_log_probs

WIDTHS = 512, 1024
FORMS = "plain", "chunked"


def plain(student, embedding, teacher, teacher_embedding):
    """The same divergence from all logits."""
    log_q, log_p = (
        soft_log_probs(ops.matmul(hidden, ops.transpose(table)))
        for hidden, table in ((student, embedding), (teacher, teacher_embedding))
    )
    return ops.mean(divergences.kl(log_p, log_q))


def make_step(form, chunk_size):
    """A compiled function of the four arrays: the value and the student's gradients."""

    def value(*arrays):
        if form == "plain":
            return plain(*arrays)
        return chunked_divergence(*arrays, chunk_size=chunk_size)

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


def memory():
    """Memory of this process now, bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def peak_memory():
    """Peak memory of this process, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(form, vocabulary, tokens, chunk_size, calls):
    """Measures one form in this process, and prints a dict as JSON."""
    rng = np.random.default_rng(0)
    shapes = [s for width in WIDTHS for s in ((tokens, width), (vocabulary, width))]
    arrays = []
    for shape in shapes:
        array = rng.standard_normal(shape, dtype="float32") / np.sqrt(shape[1])
        arrays.append(ops.convert_to_tensor(array))
        del array
    step = make_step(form, chunk_size)
    before, seconds = memory(), []
    for _ in range(calls + 1):
        start = time.process_time()
        value, gradients = step(*arrays)
        norms = [float(ops.convert_to_numpy(ops.norm(g))) for g in gradients]
        seconds.append(time.process_time() - start)
    print(
        json.dumps(
            {
                "value": float(ops.convert_to_numpy(value)),
                "gradient_norms": norms,
                "bytes": peak_memory() - before,
                "cpu_seconds": statistics.median(seconds[1:]),
            }
        )
    )


def main():
    from machine import environment_info, save

    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--vocabularies", type=int, nargs="+", default=[32_000, 128_000]
    )
    parser.add_argument("--tokens", type=int, default=1536)
    parser.add_argument("--chunk-size", type=int, default=256)
    parser.add_argument("--calls", type=int, default=3)
    parser.add_argument("--form", choices=FORMS, help="measure it in this process")
    parser.add_argument("--output", type=Path, help="the JSON file of the results")
    arguments = parser.parse_args()
    options = arguments.tokens, arguments.chunk_size, arguments.calls
    if arguments.form:
        return measure(arguments.form, arguments.vocabularies[0], *options)
    result = {**environment_info(), "widths": WIDTHS, "results": {}}
    names = ("tokens", "chunk_size", "calls")
    result |= dict(zip(names, options, strict=True))
    titles = "vocabulary", "form", "peak, MiB", "CPU time, s", "÷ plain", "÷ plain"
    print(f"| {' | '.join(titles)} |")
    print("|---|---|---|---|---|---|")
    for vocabulary in arguments.vocabularies:
        found = {}
        for form in FORMS:
            command = [sys.executable, __file__, f"--form={form}"]
            command += [f"--vocabularies={vocabulary}"]
            command += [
                f"--{name.replace('_', '-')}={value}"
                for name, value in zip(names, options, strict=True)
            ]
            output = subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout
            found[form] = json.loads(output.splitlines()[-1])
        result["results"][str(vocabulary)] = found
        for form, values in found.items():
            ratios = [values[k] / found["plain"][k] for k in ("bytes", "cpu_seconds")]
            print(
                f"| {vocabulary:,} | {form} | {values['bytes'] / 2**20:,.0f} | "
                f"{values['cpu_seconds']:.2f} | {ratios[0]:.2f} | {ratios[1]:.2f} |"
            )
    save(result, "chunked_divergence", arguments.output)
    return None


if __name__ == "__main__":
    main()
