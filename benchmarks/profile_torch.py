"""Where the time of our step goes under PyTorch.

    KERAS_BACKEND=torch python benchmarks/profile_torch.py

Two Markdown tables: the parts of the step, beside those of the student's plain `fit`,
and the operations that cost most.
"""

import argparse
import contextlib
import functools
import time
import warnings
from collections import defaultdict

import keras
import numpy as np
import torch
from machine import circumstances
from resnets import CLASSES, SHAPE, resnet
from step_time import clone, compiled

import keras_dtkd
from keras_dtkd.losses import DTKD, KD

LOSSES = {"kd": KD, "dtkd": DTKD, "published": DTKD.published}


class Parts:
    """Processor time in nested parts of a step; each pays for itself alone."""

    def __init__(self):
        self.seconds, self.stack = defaultdict(float), []

    def now(self):
        # On an accelerator a part is over when its work is.
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    @contextlib.contextmanager
    def part(self, name):
        self._charge()
        self.stack.append(name)
        yield
        self._charge()
        self.stack.pop()

    def _charge(self):
        now = self.now()
        if self.stack:
            self.seconds[self.stack[-1]] += now - self.since
        self.since = now

    def watch(self, owner, method, name):
        """Charges every call of `owner.method` to a part."""
        call = getattr(owner, method)

        @functools.wraps(call)
        def watched(*args, **kwargs):
            with self.part(name):
                return call(*args, **kwargs)

        object.__setattr__(owner, method, watched)


def watched(model):
    """The parts of a compiled model's step, from here on."""
    parts = Parts()
    model.make_train_function()
    parts.watch(model, "train_function", "the rest of the step")
    student = getattr(model, "student", model)
    parts.watch(student, "call", "student, forward")
    parts.watch(model, "compute_loss", "task loss")
    parts.watch(model.optimizer, "apply", "optimizer")
    parts.watch(model, "compute_metrics", "metrics")
    parts.watch(model, "zero_grad", "zero_grad")
    if model is not student:
        parts.watch(model.held.teacher, "outputs", "teacher, forward")
        parts.watch(model, "_distillation_loss", "distillation loss")
        parts.watch(model, "_note", "metrics")
    return parts


@contextlib.contextmanager
def backward_watched(parts):
    backward = torch.Tensor.backward

    def charged(self, *args, **kwargs):
        with parts.part("student, backward"):
            return backward(self, *args, **kwargs)

    torch.Tensor.backward = charged
    try:
        yield
    finally:
        torch.Tensor.backward = backward


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--depths", type=int, nargs=2, default=[20, 8])
    parser.add_argument("--loss", choices=LOSSES, default="dtkd")
    parser.add_argument("--operations", type=int, default=12, help="how many to list")
    arguments = parser.parse_args()
    # An untrained teacher knows nothing, and ours says so.
    warnings.filterwarnings("ignore", category=UserWarning)

    rng = np.random.default_rng(0)
    samples = arguments.batch * arguments.steps
    x = rng.normal(size=(samples, *SHAPE)).astype("float32")
    y = rng.integers(CLASSES, size=samples)
    teacher, student = (resnet(depth, arguments.width) for depth in arguments.depths)
    loss = LOSSES[arguments.loss]()
    models = {
        "ours": compiled(keras_dtkd.Distiller(teacher, clone(student), loss)),
        "student alone": compiled(clone(student)),
    }

    def fit(model):
        model.fit(x, y, batch_size=arguments.batch, verbose=0)

    milliseconds = {}
    for name, model in models.items():
        fit(model)
        with torch.profiler.profile() as profile:
            fit(model)
        if name == "ours":
            operations = profile.key_averages()
        parts = watched(model)
        with backward_watched(parts):
            fit(model)
        milliseconds[name] = {
            part: 1e3 * seconds / arguments.steps
            for part, seconds in parts.seconds.items()
        }

    where = circumstances()
    print(
        f"torch {torch.__version__}, Keras {keras.__version__}, {where['device']} "
        f"({where['cpu']}, {where['cores']} cores), {arguments.loss}, batch "
        f"{arguments.batch}, teacher resnet{arguments.depths[0]}, student "
        f"resnet{arguments.depths[1]}, width {arguments.width}.\n"
    )
    print_parts(milliseconds)
    print_operations(operations, arguments)


def print_parts(milliseconds):
    ours, alone = milliseconds["ours"], milliseconds["student alone"]
    total = sum(ours.values())
    print("| part | ms a step | share | student alone |\n|---|---|---|---|")
    for part, value in sorted(ours.items(), key=lambda item: -item[1]):
        other = f"{alone[part]:.2f}" if part in alone else ""
        print(f"| {part} | {value:.2f} | {value / total:.1%} | {other} |")
    print(f"| together | {total:.2f} | | {sum(alone.values()):.2f} |\n")


def print_operations(operations, arguments):
    own = "self_device_time_total" if torch.cuda.is_available() else None
    own = own or "self_cpu_time_total"
    found = sorted(operations, key=lambda event: -getattr(event, own))
    total = sum(getattr(event, own) for event in found)
    print("| operation | calls a step | ms a step | share |\n|---|---|---|---|")
    for event in found[: arguments.operations]:
        value = getattr(event, own)
        print(
            f"| `{event.key}` | {event.count / arguments.steps:.1f} "
            f"| {value / 1e3 / arguments.steps:.2f} | {value / total:.1%} |"
        )


if __name__ == "__main__":
    main()
