"""The base class of the backends, with neutral defaults, and a model's session."""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras

from keras_dtkd.backend.deferred_interrupt import DeferredInterrupt


@dataclasses.dataclass(frozen=True)
class SessionParts:
    """What a session needs of a model; of variables, functions that collect them."""

    variables: Callable
    trainable_variables: Callable
    metrics_variables: Callable
    optimizer: Any
    strategy: Any
    sync_variables: Callable  # Fills them with the state of a run, under JAX.
    is_training: bool


class Backend:
    """What Keras does not do the same way on every backend, by default nothing.

    It gets variables and functions, and never a Distiller; `session` is a `Session`.
    """

    def replicas(self):
        """How many replicas share a step under `tf.distribute`; 1 elsewhere."""
        return 1

    def replica_index_and_count(self):
        """Which part of the global batch a step sees, and of how many parts."""
        return 0, 1

    def rank_and_world_size(self):
        """This process's number, from 0, and how many processes train together."""
        return 0, 1

    def single_process_scope(self):
        """A context in which this process saves, and the others do not."""
        return contextlib.nullcontext()

    def batch_divisor(self):
        """Every global batch must be a multiple of this number, unless `None`."""
        return None

    def enable_determinism(self):
        """Allows deterministic operations only. Called before anything is computed."""
        raise NotImplementedError

    def get_rng_state(self):
        """The state of torch's random numbers, by name. Keras keeps seeds elsewhere."""
        return {}

    def set_rng_state(self, states):
        """Sets the result of `get_rng_state`, of this or another backend."""

    def device_info(self):
        """The name of the accelerator (or `"cpu"`), and its peak memory in bytes."""
        raise NotImplementedError

    def runs_channels_first(self):
        """Whether convolutions of images `(batch, channels, ...)` are supported."""
        return True

    def no_grad(self):
        """A context, outside of a step, in which no gradient is recorded."""
        return contextlib.nullcontext()

    def zero_grad(self, variables):
        """Removes the gradients of the last step, where the backend keeps them."""

    def jit(self, variables, function):
        """The function, compiled once for each shape of its arguments; not under torch.

        `variables` are all that it reads, as they are at each call, and it assigns
        none: what a layer would keep (statistics, a random state) is forgotten.
        """
        raise NotImplementedError

    def compile_forward(
        self, function, variables, name, when="auto", layers=(), add_loss=None
    ):
        """A function that runs a model, compiled where that pays; under torch alone.

        It reads and assigns no other than these Keras variables. `name` is what it is,
        for messages; `when` is `"auto"`, `True` or `False`; `layers` are those that it
        runs. `add_loss` is called with a layer, or `None`, and each loss that it adds.
        """
        return function

    def building_scope(self, strategy=None):
        """A context in which the variables of a model with a strategy are created."""
        return contextlib.nullcontext()

    def run_with_state(self, function, trainable_variables, variables, state):
        """Calls a function that may assign `variables`, the non-trainable ones.

        It may read the trainable ones. Under JAX `state` holds the state that the step
        got, else it is empty. Returns `(result, state)`, the state with what the
        function assigned.
        """
        return function(), state

    def wrap_step(self, function, session, state_variables, variables, attach):
        """A step function of Keras, protected from interrupts halfway.

        Under JAX the teacher's `variables` travel with the data, so that they are
        neither constants of the compiled step nor part of the state that Keras empties
        and writes back. `attach` makes of labels and their values what takes the
        labels' place, or is `None` where the data has none. Of `variables`,
        `None` stands for one that is part of the state all the same.
        `state_variables()` are the model's groups, in the order of JAX's state.
        """
        return session.interrupt.protect_step(function)

    def weight_loss_by_batch_share(self, session, loss, batch_size):
        """This device's mean loss, its gradient scaled by its share of the samples."""
        return loss

    def all_reduce_mean(self, session, values, batch_size):
        """The means over all devices' samples, with the gradient of this device's own.

        `weight_loss_by_batch_share` does the rest when gradients are averaged.
        """
        means = self._global_means(session, values, batch_size)
        if means is None:
            return values
        return [
            value + keras.ops.stop_gradient(mean - value)
            for value, mean in zip(values, means, strict=True)
        ]

    def _global_means(self, session, values, batch_size):
        """The means, or `None` where they are global already."""
        return None

    def value_and_input_grad(self, fn, x):
        """`((value, aux), gradient)`, see `keras_dtkd.backend.autodiff`."""
        raise NotImplementedError

    def jvp(self, fn, x, v):
        """`((value, aux), tangent)`, see `keras_dtkd.backend.autodiff`."""
        raise NotImplementedError

    def all_gather_numbers(self, numbers):
        """A list of the numbers of each process."""
        raise NotImplementedError

    def broadcast(self, variables):
        """Assigns rank 0's variables in all processes, where they may differ."""

    def all_reduced_metrics(self, session, variables, ends_epoch):
        """A context in which the metrics are those of all processes.

        `variables()` are theirs. If it `ends_epoch`, all processes must do so.
        """
        return contextlib.nullcontext()

    def open_session(self, session, model_state):
        """The backend's part of `Session.open`."""
        return contextlib.nullcontext()


class Session:
    """The runs of one model: deferred interrupts, processes that train together."""

    def __init__(self, backend):
        self.backend = backend
        self.interrupt = DeferredInterrupt()
        # The `GradientAverager` while several torch processes train.
        self.averager = None
        self.is_synchronized = False
        # Whether metrics are those of a step: this process's own.
        self.in_step = False
        # Whether a `fit` or `train_on_batch` runs.
        self.is_training = False

    @contextlib.contextmanager
    def open(self, model_state):
        """A context around `fit`, `evaluate` and their like.

        It leaves every variable filled (after an exception too), defers Ctrl-C to the
        end of a step, and makes gradients and metrics those of all processes.
        """
        before = self.is_training
        self.is_training = before or model_state.is_training
        try:
            with (
                self.backend.open_session(self, model_state),
                self.interrupt.installed(),
            ):
                yield
        finally:
            self.is_training = before

    @contextlib.contextmanager
    def step_metrics(self):
        """A context in which metrics are those of a step, not of all processes."""
        before, self.in_step = self.in_step, True
        try:
            yield
        finally:
            self.in_step = before

    def all_reduced_metrics(self, variables, ends_epoch):
        """See `Backend.all_reduced_metrics`."""
        return self.backend.all_reduced_metrics(self, variables, ends_epoch)

    def synchronize_start(self, variables, must_agree):
        """Makes all processes start with rank 0's variables, once.

        A `ValueError` where they disagree in a number of `must_agree`, unless `None`.
        """
        if self.is_synchronized and not must_agree:
            return
        _, world_size = self.backend.rank_and_world_size()
        count = sum(math.prod(variable.shape) for variable in variables)
        numbers = {**must_agree, "variables": count}
        known = [-1 if number is None else number for number in numbers.values()]
        everywhere = zip(*self.backend.all_gather_numbers(known), strict=True)
        for name, values in zip(numbers, everywhere, strict=True):
            if -1 not in values and len(set(values)) > 1:
                raise ValueError(
                    f"`Distiller`: the {world_size} processes disagree in "
                    f"{name.replace('_', ' ')}: {', '.join(map(str, values))}. Give "
                    "all of them the same models, arguments and checkpoints, and data "
                    "cut by `keras_dtkd.distribution.shard`."
                )
        self.backend.broadcast(variables)
        self.is_synchronized = True
