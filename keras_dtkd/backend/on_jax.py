"""JAX."""

import contextlib

import keras

from keras_dtkd import backend
from keras_dtkd.backend.told import Told


def replicas():
    """One: under JAX a batch is global whatever the number of devices."""
    return 1


def processes():
    """One: what several processes compute together is one program under JAX."""
    return 0, 1


def no_gradient():
    """Nothing: the teacher speaks outside the function that is differentiated."""
    return contextlib.nullcontext()


def building_scope(model):
    """Nothing: the distribution is global."""
    return contextlib.nullcontext()


def speaker(teacher):
    """See `keras_dtkd.backend.speaker`."""
    import jax

    values = place([v.value for v in teacher.variables])
    compiled = jax.jit(lambda values, x: backend.hear(teacher, x, values))
    return lambda x: compiled(values, x)


def place(values):
    """The values on the devices of the current distribution.

    A teacher made before `keras.distribution.set_distribution` lives on one
    device, and a compiled step accepts no mixture.
    """
    import jax

    distribution = keras.distribution.distribution()
    if distribution is None:
        return values
    mesh = distribution.device_mesh.backend_mesh
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    single = jax.sharding.SingleDeviceSharding
    return [
        jax.device_put(v, whole) if isinstance(v.sharding, single) else v
        for v in values
    ]


def tell(model, function, teacher):
    """See `keras_dtkd.backend.tell`."""
    held = model.held
    placed = {"from": [], "to": []}

    def teacher_values():
        values = [v.value for v in held.teacher.variables]
        if keras.distribution.distribution() is None:
            return values
        # Placing copies: once for each teacher, not once a step.
        if list(map(id, placed["from"])) != list(map(id, values)):
            placed.update({"from": values, "to": place(values)})
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
def session(model, training):
    """See `keras_dtkd.backend.session`."""
    _join_distribution(model)
    try:
        with model.held.interrupts.deferred():
            yield
    finally:
        # Keras does this itself at the end of a `fit`; not after an exception in
        # `evaluate`, and in its older versions not in `fit` either.
        model.jax_state_sync()


def _join_distribution(model):
    """Moves what was made before the distribution was set onto its devices."""
    if keras.distribution.distribution() is None:
        return
    variables = list(model.variables)
    if model.optimizer is not None:
        variables += model.optimizer.variables
    for variable, value in zip(
        variables, place([v.value for v in variables]), strict=True
    ):
        if value is not variable.value:
            variable.assign(value)


def metrics_of_all(model):
    """Nothing: metrics are global already."""
    return contextlib.nullcontext()
