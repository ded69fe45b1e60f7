"""The TensorFlow backend: replicas of a `tf.distribute.Strategy` share a step."""

import contextlib
import functools

import keras

from keras_dtkd.backend.base import Backend


class TensorFlowBackend(Backend):
    """See `Backend`."""

    def replicas(self):
        import tensorflow as tf

        return tf.distribute.get_strategy().num_replicas_in_sync

    def replica_index_and_count(self):
        import tensorflow as tf

        replica = tf.distribute.get_replica_context()
        count = self.replicas()
        if count == 1 or replica is None:
            return 0, 1
        return replica.replica_id_in_sync_group, count

    def enable_determinism(self):
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()

    def device_info(self):
        import tensorflow as tf

        devices = tf.config.list_logical_devices("GPU")
        if not devices:
            return "cpu", None
        physical = tf.config.list_physical_devices("GPU")[0]
        details = tf.config.experimental.get_device_details(physical)
        memory = tf.config.experimental.get_memory_info(devices[0].name)
        return details.get("device_name", "gpu"), memory["peak"]

    def runs_channels_first(self):
        # TensorFlow's own for the CPU know `channels_last` alone; oneDNN brings the
        # others, and TensorFlow leaves oneDNN off on processors without AVX-512.
        import tensorflow as tf

        pixel = tf.zeros((1, 1, 1, 1))
        try:
            tf.nn.conv2d(pixel, pixel, 1, "VALID", data_format="NCHW")
        except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError):
            return False
        return True

    def jit(self, variables, function):
        import tensorflow as tf

        # TensorFlow counts how often the code of a function is traced: a `lambda` of
        # this line would be one for all models. Keras's layers need no autograph.
        run = functools.partial(_run_stateless, function)
        return tf.function(run, autograph=False)

    def building_scope(self, strategy=None):
        return contextlib.nullcontext() if strategy is None else strategy.scope()

    def weight_loss_by_batch_share(self, session, loss, batch_size):
        import tensorflow as tf

        replica = tf.distribute.get_replica_context()
        if self.replicas() == 1 or replica is None:
            return loss
        rows = tf.cast(batch_size, loss.dtype)
        share = rows * self.replicas() / replica.all_reduce("sum", rows)
        # Keras logs the number: it stays as it is.
        return share * loss + tf.stop_gradient((1 - share) * loss)

    def _global_means(self, session, values, batch_size):
        import tensorflow as tf

        replica = tf.distribute.get_replica_context()
        if self.replicas() == 1 or replica is None:
            return None
        rows = tf.cast(batch_size, "float32")
        share = rows / replica.all_reduce("sum", rows)
        weighted = [tf.cast(share, value.dtype) * value for value in values]
        return replica.all_reduce("sum", weighted)

    def value_and_input_grad(self, fn, x):
        import tensorflow as tf

        with tf.GradientTape() as tape, _moments_of_any_order():
            tape.watch(x)
            value, aux = fn(x)
        gradients = tape.gradient(value, x, unconnected_gradients="zero")
        # That of a lookup is a list of rows.
        return (value, aux), keras.tree.map_structure(tf.convert_to_tensor, gradients)

    def jvp(self, fn, x, v):
        import tensorflow as tf

        with tf.autodiff.ForwardAccumulator(x, v) as accumulator:
            with _moments_of_any_order():
                value, aux = fn(x)
            tangent = accumulator.jvp(value, unconnected_gradients="zero")
        return (value, aux), tangent

    @contextlib.contextmanager
    def open_session(self, session, model_state):
        strategy = model_state.strategy
        count = strategy.num_replicas_in_sync
        # The default strategy has no such list.
        if count > 1 and count > len(strategy.extended.worker_devices):
            raise ValueError(
                "`Distiller`: Keras 3 cannot `fit` any model under a "
                f"`{type(strategy).__name__}` with several workers. Use "
                "`MirroredStrategy` for the devices of one machine, or the JAX or "
                "PyTorch backend for several machines."
            )
        trained = model_state.trainable_variables() if model_state.is_training else ()
        for variable in trained:
            if not strategy.extended.variable_created_in_scope(variable.value):
                raise ValueError(
                    f"`Distiller`: {variable.path} was not created under the "
                    f"Distiller's strategy, a `{type(strategy).__name__}`. Create the "
                    "student, the losses, the Distiller, and a teacher that is trained "
                    "too, inside the same `with strategy.scope():`."
                )
        yield


def _run_stateless(function, *args):
    with keras.StatelessScope([]):
        return function(*args)


@contextlib.contextmanager
def _moments_of_any_order():
    """`tf.nn.moments`, of which BatchNorm and LayerNorm are made, as they are.

    TensorFlow's own hides the mean from the variance's gradient, where it makes no
    difference. In the second derivative it does, and that is silently wrong.
    """
    import tensorflow as tf

    def moments(x, axes, shift=None, keepdims=False, name=None):
        mean = tf.reduce_mean(x, axes, keepdims=True)
        squares = tf.math.squared_difference(x, mean)
        variance = tf.reduce_mean(squares, axes, keepdims=True)
        if keepdims:
            return mean, variance
        return tf.squeeze(mean, axes), tf.squeeze(variance, axes)

    # Replicas take turns in here: whichever is the last to leave, the numbers are the
    # same.
    before, tf.nn.moments = tf.nn.moments, moments
    try:
        yield
    finally:
        tf.nn.moments = before
