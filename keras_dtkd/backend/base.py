"""What a backend is, with neutral defaults; and a session of one Distiller on it."""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras

from keras_dtkd.backend.deferred_interrupt import DeferredInterrupt


@dataclasses.dataclass(frozen=True)
class SessionParts:
    """What a session needs of a model.

    Attributes:
        variables: All of the model's.
        trainable_variables: Those that the optimizer updates.
        metrics_variables: Those of its metrics.
        optimizer: Its optimizer, or `None`.
        strategy: Its `tf.distribute.Strategy`, or `None`.
        sync_variables: Fills the variables with the state of a run; under JAX alone.
        is_training: Whether the model is trained.
    """

    variables: list
    trainable_variables: list
    metrics_variables: list
    optimizer: Any
    strategy: Any
    sync_variables: Callable
    is_training: bool


class Backend:
    """What Keras does not do the same way on every backend.

    A subclass for each overrides what differs. It gets variables and functions, and
    never a Distiller.
    """

    def replicas(self):
        """How many replicas share a step under `tf.distribute`; 1 elsewhere."""
        return 1

    def rank_and_world_size(self):
        """This process's number, from 0, and how many processes train together.

        Under torch those of `torch.distributed`, under JAX those of
        `keras.distribution.initialize`, under TensorFlow `(0, 1)`.
        """
        return 0, 1

    def single_process_scope(self):
        """A context in which this process does what the others do not."""
        return contextlib.nullcontext()

    def batch_divisor(self):
        """The number of which every global batch must be a multiple; or `None`."""
        return None

    def enable_determinism(self):
        """From now on, only operations that give the same bits each time.

        To be called before anything is computed.
        """
        raise NotImplementedError

    def get_rng_state(self):
        """The state of the backend's own random numbers, if Keras's layers use them.

        Returns:
            A dict of NumPy arrays; empty but under torch: elsewhere Keras keeps a seed
            for each layer.
        """
        return {}

    def set_rng_state(self, states):
        """Sets what `get_rng_state` gave, here or on another backend."""

    def device_info(self):
        """What computes here.

        Returns:
            The accelerator's name, or `"cpu"`, and the most bytes of its memory that
            were in use so far, `None` where that is not known.
        """
        raise NotImplementedError

    def runs_channels_first(self):
        """Whether this device has convolutions of images `(batch, channels, ...)`."""
        return True

    def no_grad(self):
        """A context outside of a step in which nothing is recorded for a gradient."""
        return contextlib.nullcontext()

    def zero_grad(self, variables):
        """Leaves no gradient of the step before, where the backend keeps them."""

    def jit(self, variables, function):
        """The function, compiled once for each shape of its arguments.

        It reads the variables as they are at each call, and assigns none: what a layer
        would keep (statistics, a random state) is forgotten. `value_and_grad` may
        stand inside. Under torch it is not compiled.

        Args:
            variables: All variables that the function reads. They travel with its
                arguments, so that a compiled function holds no constants.
            function: Of tensors, or `None`; returns nested tensors without a record of
                how they came about.

        Returns:
            A function of the same arguments.
        """
        raise NotImplementedError

    def building_scope(self, strategy=None):
        """A context in which variables must be created.

        Args:
            strategy: The `tf.distribute.Strategy` of a model, or `None`.
        """
        return contextlib.nullcontext()

    def run_with_state(self, function, variables, state):
        """Calls a function before Keras's own step, which may assign variables.

        Args:
            function: Of no arguments.
            variables: The model's non-trainable variables.
            state: Under JAX a list of the state that the step got; else empty.

        Returns:
            `(result, state)`, the state with what the function assigned.
        """
        return function(), state

    def wrap_step(self, function, session, state_variables, variables, attach):
        """A step function that cannot be interrupted halfway.

        Under JAX, what a compiled step reads must be handed to it: the teacher's
        variables travel with the data, so they are neither constants of the compiled
        step nor part of the state that Keras empties, donates and writes back.

        Args:
            function: What Keras's `make_train_function` or its like made.
            session: The `Session` of the model.
            state_variables: A function that returns the model's groups of variables,
                in the order of JAX's state.
            variables: The teacher's variables.
            attach: From labels and the values of these variables to what takes the
                labels' place; `None` for a step that does not run the teacher.

        Returns:
            The function to use instead.
        """
        return session.interrupt.protect_step(function)

    def weight_loss_by_batch_share(self, session, loss, batch_size):
        """A step's loss such that each sample of the global batch counts the same.

        An uneven batch leaves some devices with fewer samples than others. A mean over
        devices must count each for its samples.

        Args:
            session: The `Session` of the model.
            loss: This device's mean.
            batch_size: How many samples it is the mean of.

        Returns:
            The same number. Its gradient is what counts.
        """
        return loss

    def all_reduce_mean(self, session, values, batch_size):
        """The means over all samples of a step, where each device has seen a part.

        Args:
            session: The `Session` of the model.
            values: Tensors, each a mean over this device's samples.
            batch_size: How many samples they are the mean of.

        Returns:
            The same tensors on every device. Their gradient is that of this device's
            own: a loss that went through `weight_loss_by_batch_share` gets the rest
            when gradients are averaged.
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

    def all_gather_numbers(self, numbers):
        """A list of the same numbers from each process."""
        raise NotImplementedError

    def broadcast(self, variables):
        """Gives all processes the variables of rank 0, where they may differ."""

    def all_reduced_metrics(self, session, variables, ends_epoch):
        """A context, see `Session.all_reduced_metrics`. Metrics are global already."""
        return contextlib.nullcontext()

    def open_session(self, session, parts):
        """A context around a run, see `Session.open`."""
        return contextlib.nullcontext()


class Session:
    """The runs of one model: interrupts that wait, processes that train together.

    Args:
        backend: The `Backend`.

    Attributes:
        interrupt: Defers Ctrl-C to the end of a step.
        averager: Under `torch.distributed`, the exchange of gradients while they train.
        is_synchronized: Whether all processes started alike.
        in_step: Whether metrics are those of a step: this process's own.
    """

    def __init__(self, backend):
        self.backend = backend
        self.interrupt = DeferredInterrupt()
        self.averager = None
        self.is_synchronized = False
        self.in_step = False

    @contextlib.contextmanager
    def open(self, parts):
        """A context around `fit`, `evaluate` and their like, whatever happens inside.

        It leaves every variable of the model filled, lets Ctrl-C wait for the end of a
        step, and makes gradients and metrics those of all processes where several train
        together.

        Args:
            parts: The `SessionParts` of the model.
        """
        opened = self.backend.open_session(self, parts)
        with opened, self.interrupt.installed():
            yield

    @contextlib.contextmanager
    def step_metrics(self):
        """A context in which metrics are those of a step, not of all processes."""
        before, self.in_step = self.in_step, True
        try:
            yield
        finally:
            self.in_step = before

    def all_reduced_metrics(self, variables, ends_epoch):
        """A context in which metric variables are those of all processes.

        Args:
            variables: The variables of metrics.
            ends_epoch: Whether the metrics are those of training.
        """
        return self.backend.all_reduced_metrics(self, variables, ends_epoch)

    def synchronize_start(self, variables, must_agree):
        """All processes start with rank 0's variables and with the same numbers, once.

        Args:
            variables: Of the model and its optimizer.
            must_agree: Numbers that must be the same everywhere, by name. `None` where
                one is not known.

        Raises:
            ValueError: The processes disagree in a number.
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
