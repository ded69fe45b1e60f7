"""Profile of a Distiller step under PyTorch.

    KERAS_BACKEND=torch python benchmarks/profile_torch.py

Two Markdown tables: the components of the step, next to those of the student's plain
`fit`, and the most expensive operations.
"""

import argparse
import contextlib
import functools
import time
import warnings
from collections import defaultdict

import keras
import torch
from machine import environment_info
from step_time import clone, compiled, images

import keras_dtkd
from keras_dtkd import models
from keras_dtkd.losses import DTKD, KD

LOSSES = {"kd": KD, "dtkd": DTKD, "published": DTKD.published}


class ComponentTimer:
    """Processor time of nested components of a step, excluding inner components."""

    def __init__(self):
        self.seconds, self.stack = defaultdict(float), []

    def now(self):
        # Accelerators run asynchronously: wait for the end of the component's work.
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    @contextlib.contextmanager
    def component(self, name):
        self._add_elapsed()
        self.stack.append(name)
        yield
        self._add_elapsed()
        self.stack.pop()

    def _add_elapsed(self):
        now = self.now()
        if self.stack:
            self.seconds[self.stack[-1]] += now - self.last
        self.last = now

    def time_method(self, owner, method, name):
        """Adds the time of every call of `owner.method` to a component."""
        call = getattr(owner, method)

        @functools.wraps(call)
        def timed(*args, **kwargs):
            with self.component(name):
                return call(*args, **kwargs)

        object.__setattr__(owner, method, timed)


def time_components(model):
    """Starts timing the components of a compiled model's step."""
    timer = ComponentTimer()
    model.make_train_function()
    timer.time_method(model, "train_function", "the rest of the step")
    student = getattr(model, "student", model)
    timer.time_method(student, "call", "student, forward")
    timer.time_method(model, "compute_loss", "task loss")
    timer.time_method(model.optimizer, "apply", "optimizer")
    timer.time_method(model, "compute_metrics", "metrics")
    timer.time_method(model, "zero_grad", "zero_grad")
    if model is not student:
        teacher = model.teacher_reference.teacher
        timer.time_method(teacher, "outputs", "teacher, forward")
        for loss in model.distillation_losses.values():
            timer.time_method(loss, "compute_with_temperatures", "distillation loss")
        for tracker in model.loss_trackers.values():
            timer.time_method(tracker, "update_state", "metrics")
    return timer


@contextlib.contextmanager
def timed_backward(timer):
    backward = torch.Tensor.backward

    def timed(self, *args, **kwargs):
        with timer.component("student, backward"):
            return backward(self, *args, **kwargs)

    torch.Tensor.backward = timed
    try:
        yield
    finally:
        torch.Tensor.backward = backward


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--depths", type=int, nargs=2, default=[20, 8])
    parser.add_argument("--loss", choices=LOSSES, default="dtkd")
    parser.add_argument(
        "--operations", type=int, default=12, help="number of operations to list"
    )
    arguments = parser.parse_args()
    # The warning about an untrained teacher is expected here.
    warnings.filterwarnings("ignore", category=UserWarning)

    x, y = images(arguments.batch, arguments.steps)
    teacher, student = (models.get(f"resnet{depth}") for depth in arguments.depths)
    loss = LOSSES[arguments.loss]()
    distiller = keras_dtkd.Distiller(teacher, clone(student), loss, torch_compile=False)
    fitted = {
        "distiller": compiled(distiller),
        "student alone": compiled(clone(student)),
    }

    def fit(model):
        model.fit(x, y, batch_size=arguments.batch, verbose=0)

    milliseconds = {}
    for name, model in fitted.items():
        fit(model)
        with torch.profiler.profile() as profile:
            fit(model)
        if name == "distiller":
            operations = profile.key_averages()
        timer = time_components(model)
        with timed_backward(timer):
            fit(model)
        milliseconds[name] = {
            component: 1e3 * seconds / arguments.steps
            for component, seconds in timer.seconds.items()
        }

    info = environment_info()
    print(
        f"torch {torch.__version__}, Keras {keras.__version__}, {info['device']} "
        f"({info['cpu']}, {info['cores']} cores), {arguments.loss}, batch "
        f"{arguments.batch}, teacher resnet{arguments.depths[0]}, student "
        f"resnet{arguments.depths[1]}.\n"
    )
    print_components(milliseconds)
    print_operations(operations, arguments)


def print_components(milliseconds):
    distiller, alone = milliseconds["distiller"], milliseconds["student alone"]
    total = sum(distiller.values())
    print("| component | ms per step | share | student alone |\n|---|---|---|---|")
    for component, value in sorted(distiller.items(), key=lambda item: -item[1]):
        baseline = f"{alone[component]:.2f}" if component in alone else ""
        print(f"| {component} | {value:.2f} | {value / total:.1%} | {baseline} |")
    print(f"| total | {total:.2f} | | {sum(alone.values()):.2f} |\n")


def print_operations(operations, arguments):
    uses_gpu = torch.cuda.is_available()
    self_time = "self_device_time_total" if uses_gpu else "self_cpu_time_total"
    events = sorted(operations, key=lambda event: -getattr(event, self_time))
    total = sum(getattr(event, self_time) for event in events)
    print("| operation | calls per step | ms per step | share |\n|---|---|---|---|")
    for event in events[: arguments.operations]:
        value = getattr(event, self_time)
        print(
            f"| `{event.key}` | {event.count / arguments.steps:.1f} "
            f"| {value / 1e3 / arguments.steps:.2f} | {value / total:.1%} |"
        )


if __name__ == "__main__":
    main()
