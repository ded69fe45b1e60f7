"""What a training step costs: ours, Keras's own, and the least it could cost.

    KERAS_BACKEND=jax python benchmarks/step_time.py

The limit is the teacher's forward pass plus the student's plain `fit` step. All
variants run in this one process, in turns, over the same arrays: what else the
machine does meets all of them, and ratios are taken within a turn.
benchmarks/README.md says what is timed, and why so.
"""

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

import keras
import numpy as np
from machine import circumstances, save
from report import table
from resnets import CLASSES, SHAPE, resnet

import keras_dtkd
from keras_dtkd.losses import DTKD, KD

BACKEND = keras.backend.backend()
LEARNING_RATE = 1e-3


def now():
    """The time, and the processor time of all threads of this process.

    The second hardly feels what else the machine does.
    """
    return np.array([time.perf_counter(), time.process_time()])


class Clock(keras.callbacks.Callback):
    """Times whole epochs. It has no hook on batches: that would make every step wait
    for the device."""

    def on_train_begin(self, logs=None):
        self.ends = []

    def on_epoch_end(self, epoch, logs=None):
        self.ends.append(now())


class Fit:
    """Seconds a step of a compiled model's `fit`."""

    def __init__(self, model):
        self.model = model

    def __call__(self, x, y, batch):
        clock = Clock()
        # The first epoch fills pipelines and caches, the second is timed whole: its
        # steps, the data's way to them, and what Keras does between two epochs.
        self.model.fit(x, y, batch_size=batch, epochs=2, verbose=0, callbacks=[clock])
        return (clock.ends[1] - clock.ends[0]) / (len(x) // batch)


class Forward:
    """Seconds of a teacher's forward pass, compiled as it is inside a step."""

    def __init__(self, teacher, jit_compile):
        self.function, self.wait = forward(teacher, jit_compile)

    def __call__(self, x, y, batch):
        steps = len(x) // batch
        # Already where they are computed on: the student's `fit` pays the transfer.
        batches = [
            keras.ops.convert_to_tensor(x[i * batch : (i + 1) * batch])
            for i in range(steps)
        ]
        start = now()
        for one in batches:
            self.wait(self.function(one))
        return (now() - start) / steps


class Plain:
    """Seconds a step of the hand-written loop."""

    def __init__(self, step):
        self.step = step

    def __call__(self, x, y, batch):
        start = now()
        self.step.epoch(x, y, batch)
        return (now() - start) / (len(x) // batch)


def forward(teacher, jit_compile):
    """The teacher as a function, and what waits for its result."""
    if BACKEND == "jax":
        import jax

        values = [v.value for v in teacher.trainable_variables]
        others = [v.value for v in teacher.non_trainable_variables]
        function = jax.jit(
            lambda a, b, x: teacher.stateless_call(a, b, x, training=False)[0]
        )
        return lambda x: function(values, others, x), jax.block_until_ready
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


def variants(depths, width):
    """Name → function `(x, y, batch) → seconds a step`, each with its own student."""
    teacher, student = (resnet(depth, width) for depth in depths)

    def ours(loss):
        distiller = keras_dtkd.Distiller(teacher, clone(student), loss, task_weight=0.5)
        return Fit(compiled(distiller))

    alone = compiled(clone(student))
    found = {
        "kd": ours(KD(4.0, weight=0.5)),
        "dtkd": ours(DTKD(weight=0.5)),
        "published": ours(DTKD.published(weight=0.5)),
        "student": Fit(alone),
        # Under TensorFlow, whether Keras uses XLA depends on the machine.
        "teacher": Forward(teacher, alone.jit_compile),
    }
    if hasattr(keras, "distillation"):
        # A name instead of the object would be no KL divergence: see
        # keras_distillation.py. It also wants a teacher of its own, to freeze.
        loss = keras.distillation.LogitsDistillation(
            temperature=4.0, loss=keras.losses.KLDivergence()
        )
        theirs = keras.distillation.Distiller(
            clone(teacher), clone(student), loss, student_loss_weight=0.5
        )
        found["keras.distillation"] = Fit(compiled(theirs))
    if BACKEND == "torch":
        import plain_torch

        for name in ("torch", "torch.compile"):
            step = plain_torch.Step(
                depths, width, LEARNING_RATE, name == "torch.compile"
            )
            numbers = sum(p.numel() for p in step.student.parameters())
            assert numbers == sum(np.prod(w.shape) for w in student.trainable_weights)
            found[name] = Plain(step)
    return found


def images(batch, steps):
    """An epoch of noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(steps * batch, *SHAPE)).astype("float32")
    return x, rng.integers(CLASSES, size=len(x)).astype("int32")


def measure(todo, batch, steps, rounds):
    """Seconds a step, and seconds of processor time, of each variant and round."""
    x, y = images(batch, steps)
    for name in list(todo):
        try:
            todo[name](x, y, batch)
        except Exception as error:  # noqa: BLE001 - no compiler, no such variant
            if name != "torch.compile":
                raise
            print(f"torch.compile: not available ({type(error).__name__})")
            del todo[name]
    seconds = {name: [] for name in todo}
    for i in range(rounds):
        # Another one begins each round, so that none always follows the same one.
        names = list(todo)[i % len(todo) :] + list(todo)[: i % len(todo)]
        for name in names:
            seconds[name].append(todo[name](x, y, batch))
        print(f"batch {batch}: round {i + 1} of {rounds}", file=sys.stderr)
    return [
        {name: [float(both[i]) for both in rounds] for name, rounds in seconds.items()}
        for i in range(2)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 512])
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[24, 4], help="an epoch, per batch size"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--width", type=int, default=16, help="of the first stage")
    parser.add_argument("--depths", type=int, nargs=2, default=[20, 8])
    parser.add_argument("--output", type=Path, help="the JSON file")
    arguments = parser.parse_args()
    # Random images teach nobody anything: DTKD's warning is right, and no news here.
    warnings.filterwarnings("ignore", category=UserWarning)

    result = {**circumstances(), "seconds": {}, "cpu_seconds": {}}
    tables = []
    for i, batch in enumerate(arguments.batches):
        steps = arguments.steps[min(i, len(arguments.steps) - 1)]
        keras.utils.set_random_seed(0)
        todo = variants(arguments.depths, arguments.width)
        wall, cpu_time = measure(todo, batch, steps, arguments.rounds)
        for seconds in (wall, cpu_time):
            pairs = zip(seconds["teacher"], seconds["student"], strict=True)
            seconds["limit"] = [sum(pair) for pair in pairs]
        result["seconds"][str(batch)] = wall
        result["cpu_seconds"][str(batch)] = cpu_time
        rows = table(wall, cpu_time)
        tables.append(f"Batch {batch}, {steps} steps a round:\n\n{rows}\n")
    result["load_after"] = os.getloadavg()[0]

    save(result, "step_time", arguments.output)
    print(heading(result, arguments))
    print("\n".join(tables))


def heading(result, arguments):
    """What was measured, in a sentence."""
    versions, (teacher, student) = result["versions"], arguments.depths
    return (
        f"{BACKEND} {versions[BACKEND]}, Keras {versions['keras']}, "
        f"{result['device']} ({result['cpu']}, {result['cores']} cores, load "
        f"{result['load']:.1f}); teacher resnet{teacher}, student resnet{student}, "
        f"width {arguments.width}; medians of {arguments.rounds} rounds, quartiles.\n"
    )


if __name__ == "__main__":
    main()
