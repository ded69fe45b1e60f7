"""Time of a training step: `keras_dtkd`, `keras.distillation`, and the lower limit.

    KERAS_BACKEND=jax python benchmarks/step_time.py

The lower limit is the teacher's forward pass plus the student's plain `fit` step. All
variants run in one process, in turns, over the same arrays: other load on the machine
affects all of them, and ratios are taken within a round. benchmarks/README.md describes
the measurement.
"""

import argparse
import contextlib
import io
import os
import sys
import time
import warnings
from pathlib import Path

import keras
import numpy as np
from machine import environment_info, save
from report import table

import keras_dtkd
from keras_dtkd import models
from keras_dtkd.losses import DTKD, KD

BACKEND = keras.backend.backend()
SHAPE, CLASSES = (32, 32, 3), 100
LEARNING_RATE = 1e-3


def now():
    """Wall-clock time, and the processor time of all threads of this process.

    Other load on the machine hardly affects the processor time.
    """
    return np.array([time.perf_counter(), time.process_time()])


class Clock(keras.callbacks.Callback):
    """Times whole epochs. A batch hook would make every step wait for the device."""

    def on_train_begin(self, logs=None):
        self.ends = []

    def on_epoch_end(self, epoch, logs=None):
        self.ends.append(now())


class Fit:
    """Seconds per step of a compiled model's `fit`."""

    def __init__(self, model):
        self.model = model

    def __call__(self, x, y, batch):
        clock = Clock()
        # The first epoch fills pipelines and caches, the second is timed as a whole:
        # its steps, the data pipeline, and Keras's work between two epochs.
        options = {"epochs": 2, "verbose": 0, "callbacks": [clock]}
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            self.model.fit(x, y, batch_size=batch, **options)
        text = printed.getvalue()
        print(text, end="")
        if "is not compiled" in text:
            raise RuntimeError("The networks are to be timed compiled, and are not.")
        return (clock.ends[1] - clock.ends[0]) / (len(x) // batch)


class Forward:
    """Seconds of a teacher's forward pass, compiled as it is inside a step."""

    def __init__(self, teacher, jit_compile):
        self.function, self.wait = forward(teacher, jit_compile)

    def __call__(self, x, y, batch):
        steps = len(x) // batch
        # Already on the device: the transfer is timed in the student's `fit`.
        batches = [
            keras.ops.convert_to_tensor(x[i * batch : (i + 1) * batch])
            for i in range(steps)
        ]
        start = now()
        for inputs in batches:
            outputs = self.function(inputs)
        self.wait(outputs)
        return (now() - start) / steps


class ByHand:
    """Seconds per step of a hand-written loop."""

    def __init__(self, step):
        self.step = step

    def __call__(self, x, y, batch):
        start = now()
        self.step.epoch(x, y, batch)
        return (now() - start) / (len(x) // batch)


def forward(teacher, jit_compile):
    """The teacher as a function, and a function that waits for its result."""
    if BACKEND == "jax":
        import jax

        trainable = [v.value for v in teacher.trainable_variables]
        non_trainable = [v.value for v in teacher.non_trainable_variables]
        function = jax.jit(
            lambda a, b, x: teacher.stateless_call(a, b, x, training=False)[0]
        )
        return lambda x: function(trainable, non_trainable, x), jax.block_until_ready
    if BACKEND == "tensorflow":
        import tensorflow as tf

        function = tf.function(
            lambda x: teacher(x, training=False), jit_compile=jit_compile
        )
        return function, lambda outputs: outputs.numpy()
    import torch

    def outputs(x):
        with torch.no_grad():
            return teacher(x, training=False)

    return outputs, lambda _: torch.cuda.is_available() and torch.cuda.synchronize()


def compiled(model):
    model.compile(
        optimizer=keras.optimizers.SGD(LEARNING_RATE, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def clone(model):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def variants(depths, precision="float32"):
    """Name → function `(x, y, batch) → seconds per step`, each with its own student."""
    teacher, student = (models.get(f"resnet{depth}", CLASSES) for depth in depths)

    def distill(loss, torch_compile=False):
        options = {"task_weight": 0.5, "torch_compile": torch_compile}
        distiller = keras_dtkd.Distiller(teacher, clone(student), loss, **options)
        return Fit(compiled(distiller))

    alone = compiled(clone(student))
    functions = {
        "kd": distill(KD(4.0, weight=0.5)),
        "dtkd": distill(DTKD(weight=0.5)),
        "published": distill(DTKD.published(weight=0.5)),
        "student": Fit(alone),
        # Under TensorFlow, Keras's use of XLA depends on the machine.
        "teacher": Forward(teacher, alone.jit_compile),
    }
    if hasattr(keras, "distillation"):
        # The loss as a name would not be a KL divergence: see keras_distillation.py.
        # Keras's Distiller freezes its teacher, so it gets a copy.
        loss = keras.distillation.LogitsDistillation(
            temperature=4.0, loss=keras.losses.KLDivergence()
        )
        keras_distiller = keras.distillation.Distiller(
            clone(teacher), clone(student), loss, student_loss_weight=0.5
        )
        functions["keras.distillation"] = Fit(compiled(keras_distiller))
    if BACKEND == "torch":
        import plain_torch

        functions["kd, compiled"] = distill(KD(4.0, weight=0.5), torch_compile=True)
        for name in ("torch", "torch.compile"):
            step = plain_torch.Step(
                depths, LEARNING_RATE, name == "torch.compile", precision
            )
            size = sum(p.numel() for p in step.student.parameters())
            assert size == sum(np.prod(w.shape) for w in student.trainable_weights)
            functions[name] = ByHand(step)
    if BACKEND == "jax":
        import jax
        import plain_jax

        step = plain_jax.Step(depths, LEARNING_RATE, precision, CLASSES)
        size = sum(w.size for w in jax.tree.leaves(step.state[0]))
        assert size == sum(np.prod(w.shape) for w in student.trainable_weights)
        functions["jax"] = ByHand(step)
    return functions


def images(batch, steps):
    """Random images and labels for an epoch."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(steps * batch, *SHAPE)).astype("float32")
    return x, rng.integers(CLASSES, size=len(x)).astype("int32")


def measure(functions, batch, steps, rounds):
    """Wall-clock and processor seconds per step, by variant and round."""
    x, y = images(batch, steps)
    for name in list(functions):
        try:
            functions[name](x, y, batch)
        except Exception as error:  # noqa: BLE001 - without a compiler, skip it
            if name != "torch.compile":
                raise
            print(f"torch.compile: not available ({type(error).__name__})")
            del functions[name]
    seconds = {name: [] for name in functions}
    names = list(functions)
    for i in range(rounds):
        # Rotate the order each round.
        first = i % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(functions[name](x, y, batch))
        print(f"batch {batch}: round {i + 1} of {rounds}", file=sys.stderr)
    return [
        {name: [float(pair[i]) for pair in pairs] for name, pairs in seconds.items()}
        for i in range(2)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 512])
    parser.add_argument(
        "--steps",
        type=int,
        nargs="+",
        default=[24, 4],
        help="steps per epoch, for each batch size",
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--depths", type=int, nargs=2, default=[20, 8])
    parser.add_argument(
        "--precision", choices=["float32", "bfloat16"], default="float32"
    )
    parser.add_argument("--output", type=Path, help="the JSON file of the results")
    arguments = parser.parse_args()
    # DTKD's warning is expected: nothing can be learned from random images.
    warnings.filterwarnings("ignore", category=UserWarning)

    half = arguments.precision == "bfloat16"
    keras.config.set_dtype_policy("mixed_bfloat16" if half else "float32")
    result = {**environment_info(), "precision": arguments.precision}
    result |= {"seconds": {}, "cpu_seconds": {}}
    tables = []
    for i, batch in enumerate(arguments.batches):
        steps = arguments.steps[min(i, len(arguments.steps) - 1)]
        keras.utils.set_random_seed(0)
        functions = variants(arguments.depths, arguments.precision)
        wall, cpu_time = measure(functions, batch, steps, arguments.rounds)
        for seconds in (wall, cpu_time):
            pairs = zip(seconds["teacher"], seconds["student"], strict=True)
            seconds["limit"] = [sum(pair) for pair in pairs]
        result["seconds"][str(batch)] = wall
        result["cpu_seconds"][str(batch)] = cpu_time
        rows = table(wall, cpu_time)
        tables.append(f"Batch {batch}, {steps} steps per round:\n\n{rows}\n")
    result["load_after"] = os.getloadavg()[0]

    name = "step_time_bfloat16" if half else "step_time"
    save(result, name, arguments.output)
    print(heading(result, arguments.depths, arguments.rounds))
    print("\n".join(tables))


def heading(result, depths, rounds):
    """A sentence that describes the measurement."""
    versions, (teacher, student) = result["versions"], depths
    return (
        f"{BACKEND} {versions[BACKEND]}, Keras {versions['keras']}, "
        f"{result['device']} ({result['cpu']}, {result['cores']} cores, load "
        f"{result['load']:.1f}); teacher resnet{teacher}, student resnet{student}, "
        f"{keras.config.dtype_policy().name}; medians of {rounds} rounds, quartiles.\n"
    )


if __name__ == "__main__":
    main()
