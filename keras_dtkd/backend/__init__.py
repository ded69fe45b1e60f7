"""The few things that Keras does not do the same way on every backend.

The only folder that may import `tensorflow`, `jax` or `torch`, and only inside
functions. Everything here works on the backend that Keras runs on.
"""

import contextlib
import importlib
import math

import keras

from keras_dtkd.backend.jit import jit as jit
from keras_dtkd.teachers import sample_ids


def backend_name():
    """The backend Keras runs on: `"tensorflow"`, `"jax"` or `"torch"`."""
    return keras.backend.backend()


def _current():
    return importlib.import_module(f"keras_dtkd.backend.{backend_name()}")


def replicas():
    """How many replicas share a step under `tf.distribute`; 1 elsewhere."""
    return _current().replicas()


def enable_determinism():
    """From now on, only operations that give the same bits each time.

    To be called before anything is computed.
    """
    _current().enable_determinism()


def get_rng_state():
    """The state of the backend's own random numbers, if Keras's layers draw from them.

    Returns:
        A dict of NumPy arrays; empty but under torch.
    """
    return _current().get_rng_state()


def set_rng_state(states):
    """Sets it.

    Args:
        states: What `generator` gave, here or on another backend.
    """
    _current().set_rng_state(states)


def device_info():
    """What computes here.

    Returns:
        The accelerator's name, or `"cpu"`, and the most bytes of its memory that were
        in use so far, `None` where that is not known.
    """
    return _current().device_info()


def runs_channels_first():
    """Whether this device has convolutions of images `(batch, channels, ...)`.

    TensorFlow's own for the CPU know `channels_last` alone; oneDNN brings the others,
    and TensorFlow leaves oneDNN off on processors without AVX-512.
    """
    return _current().runs_channels_first()


def no_grad():
    """A context outside of a step in which nothing is recorded for a gradient."""
    return _current().no_grad()


def value_and_grad(function, x):
    """A function's value and its gradient, outside of any step.

    Args:
        function: From a tensor to a scalar.
        x: Where to take it, a float tensor.

    Returns:
        `(value, gradient)`, without a record of how they came about. The gradient has
        the shape of `x`, and is 0 where the function does not depend on it.
    """
    # Imported here: it needs what is in this file.
    from keras_dtkd.backend import autodiff

    with no_grad():
        return autodiff.value_and_input_grad(function, x)


def zero_grad(variables):
    """Leaves no gradient of the step before, where the backend keeps them.

    Under torch Keras finds what to clear by the variables' paths, which two losses
    of one kind share.
    """
    _current().zero_grad(variables)


def teacher_forward(teacher, x, values=None):
    """What the teacher says of a batch: no gradient, no lasting effect.

    Args:
        teacher: A `keras_dtkd.teachers.Teacher`.
        x: The batch of inputs, as the data gave it.
        values: Values to use for `teacher.variables`, in order. Optional.

    Returns:
        The teacher's outputs.
    """
    mapping = zip(teacher.variables, values, strict=True) if values is not None else ()
    # The scope keeps what the teacher might assign (a counter, statistics) from
    # its variables, on every backend.
    with _current().no_grad(), keras.StatelessScope(list(mapping)):
        return teacher.outputs(*sample_ids.split_sample_ids(x))


def compiled_teacher_forward(teacher):
    """`hear` outside of any step, compiled where eager execution is slow.

    Args:
        teacher: A `keras_dtkd.teachers.Teacher`.

    Returns:
        A function of a batch of inputs.
    """
    return _current().compiled_teacher_forward(teacher)


def with_teacher_variables(model, function, teacher=True):
    """A step function that brings along what the step needs besides the data.

    Under JAX, what a compiled step reads must be handed to it. The teacher's
    variables travel with the data: so they are neither baked into the step as
    constants nor part of the state that Keras empties, donates and writes back.

    Args:
        model: The Distiller.
        function: What Keras's `make_train_function` or its like made.
        teacher: Whether the step hears the teacher.

    Returns:
        The function to use instead.
    """
    return _current().with_teacher_variables(model, function, teacher)


@contextlib.contextmanager
def training_session(model, training=True):
    """A context around `fit`, `evaluate` and their like, whatever happens inside.

    It leaves every variable of the model filled, lets Ctrl-C wait for the end of a
    step, and makes gradients and metrics those of all processes where several train
    together.
    """
    with _current().training_session(model, training), model.held.interrupts.deferred():
        yield


def building_scope(model):
    """A context in which the variables of a model must be created."""
    return _current().building_scope(model)


def rank_and_world_size():
    """This process's number, from 0, and how many processes train together.

    Under torch those of `torch.distributed`, under JAX those of
    `keras.distribution.initialize`, under TensorFlow `(0, 1)`.
    """
    return _current().rank_and_world_size()


def synchronize_processes(model, **numbers):
    """All processes begin alike: with rank 0's state, and with the same numbers.

    Args:
        model: The Distiller.
        **numbers: What must be the same everywhere. `None` where it is not known.

    Raises:
        ValueError: The processes disagree in a number.
    """
    _, count = rank_and_world_size()
    if count == 1:
        return
    variables = [*model.variables, *model.optimizer.variables]
    numbers["variables"] = sum(math.prod(variable.shape) for variable in variables)
    known = [-1 if number is None else number for number in numbers.values()]
    everywhere = zip(*_current().gather(known), strict=True)
    for name, values in zip(numbers, everywhere, strict=True):
        if -1 not in values and len(set(values)) > 1:
            raise ValueError(
                f"`Distiller`: the {count} processes disagree in "
                f"{name.replace('_', ' ')}: {', '.join(map(str, values))}. Give all of "
                "them the same models, arguments and checkpoints, and data cut by "
                "`keras_dtkd.distribution.sharding.shard`."
            )
    _current().synchronize_processes(variables)
    model.held.begun = True


def weight_loss_by_batch_share(model, loss, rows):
    """A step's loss such that each sample of the global batch counts the same.

    An uneven batch leaves some devices with fewer samples than others. A mean over
    devices must count each for its samples.

    Args:
        model: The Distiller.
        loss: This device's mean.
        rows: How many samples it is the mean of.

    Returns:
        The same number. Its gradient is what counts.
    """
    return _current().weight_loss_by_batch_share(model, loss, rows)


def all_reduce_mean(model, values, rows):
    """The means over all samples of a step, where each device has seen a part.

    Args:
        model: The Distiller.
        values: Tensors, each a mean over this device's samples.
        rows: How many samples they are the mean of.

    Returns:
        The same tensors on every device. Their gradient is that of this device's own:
        a loss that went through `counted` gets the rest when gradients are averaged.
    """
    means = _current().all_reduce_mean(model, values, rows)
    if means is None:
        return values
    return [
        value + keras.ops.stop_gradient(mean - value)
        for value, mean in zip(values, means, strict=True)
    ]


def sync_variables(model):
    """Fills the model's variables between two steps of a `fit`, for a callback.

    Under JAX they are empty there.
    """
    _current().sync_variables(model)


def single_process_scope():
    """A context in which this process does what the others do not."""
    return _current().single_process_scope()


def all_reduced_metrics(model):
    """A context in which the model's metrics are those of all processes."""
    return _current().all_reduced_metrics(model)


def batch_divisor():
    """The number of which every global batch must be a multiple. `None` for any."""
    return _current().batch_divisor()
