"""JAX."""

import contextlib
import os

import keras
import numpy as np

from keras_dtkd import backend
from keras_dtkd.backend.told import Told


def replicas():
    """One: under JAX a batch is global whatever the number of devices."""
    return 1


def rank_and_world_size():
    """Those of `keras.distribution.initialize`."""
    import jax

    return jax.process_index(), jax.process_count()


@contextlib.contextmanager
def single_process_scope():
    """No distribution: a variable made under one is made by all processes together.

    Saving makes some, to learn what an optimizer's attributes are.
    """
    distribution = keras.distribution.distribution()
    if rank_and_world_size()[1] > 1:
        keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


def batch_divisor():
    """As many as the data is split over."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return None
    mesh = distribution.device_mesh
    return mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)]


def gather(numbers):
    """A list of the same numbers from each process."""
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(np.array(numbers)).tolist()


def synchronize_processes(variables):
    """Nothing: `keras.distribution.initialize` has given all processes one seed."""


def weight_loss_by_batch_share(model, loss, rows):
    """The loss as it is: it is the mean over the global batch already."""
    return loss


def all_reduce_mean(model, values, rows):
    """None: they are those of the global batch already."""


def zero_grad(variables):
    """Nothing: gradients are results here."""


def enable_determinism():
    """See `keras_dtkd.backend.enable_determinism`."""
    # Read when a device is used for the first time.
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()


def get_rng_state():
    """None: Keras keeps a seed for each layer."""
    return {}


def set_rng_state(states):
    """Nothing."""


def device_info():
    """See `keras_dtkd.backend.device_info`."""
    import jax

    first = jax.local_devices()[0]
    # None on a CPU.
    memory = first.memory_stats() or {}
    return first.device_kind, memory.get("peak_bytes_in_use")


def runs_channels_first():
    """True on every device."""
    return True


def no_grad():
    """Nothing: the teacher speaks outside the function that is differentiated."""
    return contextlib.nullcontext()


def building_scope(model):
    """Nothing: the distribution is global."""
    return contextlib.nullcontext()


def compiled_teacher_forward(teacher):
    """See `keras_dtkd.backend.compiled_teacher_forward`."""
    import jax

    values = place(teacher.variables)
    compiled = jax.jit(lambda values, x: backend.teacher_forward(teacher, x, values))
    return lambda x: compiled(values, x)


def place(variables, replicated=False):
    """The variables' values on the devices of the current distribution.

    What was made before `keras.distribution.set_distribution` lives on one device,
    and a compiled step accepts no mixture.

    Args:
        variables: Keras variables.
        replicated: Whether each device gets them whole, whatever their layout.

    Returns:
        Their values, in order.
    """
    import jax

    distribution = keras.distribution.distribution()

    def placed(variable):
        value = variable.value
        if not isinstance(value.sharding, jax.sharding.SingleDeviceSharding):
            return value
        layout = distribution.get_variable_layout(variable)
        if replicated:
            whole = [None] * len(value.shape)
            layout = keras.distribution.TensorLayout(whole, distribution.device_mesh)
        return keras.distribution.distribute_tensor(value, layout)

    if distribution is None:
        return [variable.value for variable in variables]
    return [placed(variable) for variable in variables]


def with_teacher_variables(model, function, teacher):
    """See `keras_dtkd.backend.with_teacher_variables`."""
    held = model.held
    placed: dict[str, list] = {"from": [], "to": []}

    def teacher_values():
        values = [v.value for v in held.teacher.variables]
        if keras.distribution.distribution() is None:
            return values
        # Placing copies: once for each teacher, not once a step.
        if list(map(id, placed["from"])) != list(map(id, values)):
            placed.update({"from": values, "to": place(held.teacher.variables)})
        return placed["to"]

    def told(data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        return x, Told(y, teacher_values()), sample_weight

    def step(state, iterator):
        data = held.interrupts.watch(iterator)
        try:
            # The state is Keras's still: an interrupt that waited may come.
            held.interrupts.batch_over()
            return function(state, map(told, data) if teacher else data)
        except StopIteration:
            held.interrupts.batch_over(failed=True)
            raise
        except BaseException:
            held.interrupts.batch_over(failed=True)
            _give_back(model, state)
            raise

    return step


def sync_variables(model):
    """See `keras_dtkd.backend.sync_variables`."""
    model.jax_state_sync()


def _give_back(model, state):
    """Fills the variables that Keras emptied with the state of before the step."""
    groups = [model.trainable_variables, model.non_trainable_variables]
    if len(state) == 4:
        groups.append(model.optimizer.variables)
    groups.append(model.metrics_variables)
    for variables, values in zip(groups, state, strict=False):
        for variable, value in zip(variables, values, strict=True):
            if not value.is_deleted():
                variable.assign(value)


@contextlib.contextmanager
def training_session(model, training):
    """See `keras_dtkd.backend.training_session`."""
    _join_distribution(model)
    try:
        yield
    finally:
        # Keras does this itself at the end of a `fit`; not after an exception in
        # `evaluate`, and in its older versions not in `fit` either.
        model.jax_state_sync()


def _join_distribution(model):
    """Moves what was made before the distribution was set onto its devices."""
    if keras.distribution.distribution() is None:
        return
    groups = [(model.variables, False), (model.metrics_variables, True)]
    if model.compiled:
        groups.append((model.optimizer.variables, True))
    for variables, replicated in groups:
        for variable, value in zip(
            variables, place(variables, replicated), strict=True
        ):
            if value is not variable.value:
                variable.assign(value)


def all_reduced_metrics(model):
    """Nothing: metrics are global already."""
    return contextlib.nullcontext()
