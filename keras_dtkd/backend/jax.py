"""The JAX backend: a batch is global, and steps get their state as arguments."""

import contextlib
import os

import keras
import numpy as np

from keras_dtkd.backend.base import Backend


class JaxBackend(Backend):
    """See `Backend`."""

    def rank_and_world_size(self):
        import jax

        return jax.process_index(), jax.process_count()

    @contextlib.contextmanager
    def single_process_scope(self):
        # Saving creates variables, to learn an optimizer's attributes. Under a
        # distribution all processes would have to create them together.
        distribution = keras.distribution.distribution()
        if self.rank_and_world_size()[1] > 1:
            keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(distribution)

    def batch_divisor(self):
        distribution = keras.distribution.distribution()
        if distribution is None:
            return None
        mesh = distribution.device_mesh
        return mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)]

    def all_gather_numbers(self, numbers):
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(np.array(numbers)).tolist()

    def enable_determinism(self):
        # Read when a device is used for the first time.
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()

    def device_info(self):
        import jax

        device = jax.local_devices()[0]
        # None on a CPU.
        memory = device.memory_stats() or {}
        return device.device_kind, memory.get("peak_bytes_in_use")

    def jit(self, variables, function):
        import jax

        def run(values, args):
            with keras.StatelessScope(list(zip(variables, values, strict=True))):
                return function(*args)

        compiled = jax.jit(run)
        return lambda *args: compiled(to_distribution(variables), args)

    def run_with_state(self, function, trainable_variables, variables, state):
        if not state:
            return function(), state
        trainable, values, *others = state[0]
        mapping = list(zip(variables, values, strict=True))
        mapping += zip(trainable_variables, trainable, strict=True)
        with keras.StatelessScope(mapping) as scope:
            result = function()
        values = [scope.get_current_value(variable) for variable in variables]
        return result, [(trainable, values, *others)]

    def wrap_step(self, function, session, state_variables, variables, attach):
        interrupt = session.interrupt
        placed: dict[str, list] = {"from": [], "to": []}

        def teacher_values():
            values = [v if v is None else v.value for v in variables]
            if keras.distribution.distribution() is None:
                return values
            # Placing copies: once for each teacher, not once a step.
            if list(map(id, placed["from"])) != list(map(id, values)):
                placed.update({"from": values, "to": to_distribution(variables)})
            return placed["to"]

        def attach_values(data):
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
            return x, attach(y, teacher_values()), sample_weight

        def step(state, iterator):
            data = interrupt.protect_iterator(iterator)
            try:
                # The state is Keras's still: a pending interrupt may be raised.
                interrupt.raise_pending()
                return function(state, map(attach_values, data) if attach else data)
            except BaseException as error:
                interrupt.raise_pending(has_failed=True)
                if not isinstance(error, StopIteration):
                    _restore_state(state_variables(), state)
                raise

        return step

    def value_and_input_grad(self, fn, x):
        import jax

        return jax.value_and_grad(fn, has_aux=True)(x)

    def jvp(self, fn, x, v):
        import jax

        value, tangent, aux = jax.jvp(fn, (x,), (v,), has_aux=True)
        return (value, aux), tangent

    @contextlib.contextmanager
    def open_session(self, session, model_state):
        _move_to_distribution(model_state)
        try:
            yield
        finally:
            # Keras does this itself at the end of a `fit`; not after an exception in
            # `evaluate`, and in its older versions not in `fit` either.
            model_state.sync_variables()


def to_distribution(variables, replicated=False):
    """The values of variables on the devices of the current distribution.

    Variables that were created before the distribution was set are on one device, and a
    compiled step accepts no mixture. `replicated`: each device gets them whole.
    """
    import jax

    distribution = keras.distribution.distribution()

    def place(variable):
        if variable is None:
            return None
        value = variable.value
        is_single = isinstance(value.sharding, jax.sharding.SingleDeviceSharding)
        if distribution is None or not is_single:
            return value
        layout = distribution.get_variable_layout(variable)
        if replicated:
            whole = [None] * len(value.shape)
            layout = keras.distribution.TensorLayout(whole, distribution.device_mesh)
        return keras.distribution.distribute_tensor(value, layout)

    return [place(variable) for variable in variables]


def _restore_state(groups, state):
    """Fills the variables that Keras emptied with the state before the step."""
    trainable, non_trainable, optimizer, metrics = groups
    if len(state) < 4:
        groups = trainable, non_trainable, metrics
    for variables, values in zip(groups, state, strict=False):
        for variable, value in zip(variables, values, strict=True):
            if not value.is_deleted():
                variable.assign(value)


def _move_to_distribution(model_state):
    if keras.distribution.distribution() is None:
        return
    for variables, replicated in (
        (model_state.variables(), False),
        (model_state.metrics_variables(), True),
        (model_state.optimizer.variables if model_state.optimizer else [], True),
    ):
        placed = to_distribution(variables, replicated)
        for variable, value in zip(variables, placed, strict=True):
            if value is not variable.value:
                variable.assign(value)
