"""TensorFlow."""

import contextlib

from keras_dtkd import backend


def replicas():
    """See `keras_dtkd.backend.replicas`."""
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def rank_and_world_size():
    """One: `tf.distribute` across machines fails in Keras 3."""
    return 0, 1


def sync_variables(model):
    """Nothing: they are never empty."""


def single_process_scope():
    """Nothing."""
    return contextlib.nullcontext()


def batch_divisor():
    """Any batch can be split."""


def weight_loss_by_batch_share(model, loss, rows):
    """See `keras_dtkd.backend.weight_loss_by_batch_share`."""
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()
    if replicas() == 1 or replica is None:
        return loss
    rows = tf.cast(rows, loss.dtype)
    share = rows * replicas() / replica.all_reduce("sum", rows)
    # Keras logs the number: it stays as it is.
    return share * loss + tf.stop_gradient((1 - share) * loss)


def all_reduce_mean(model, values, rows):
    """The means; `None` where there is one device."""
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()
    if replicas() == 1 or replica is None:
        return None
    total = replica.all_reduce("sum", tf.cast(rows, "float32"))
    share = tf.cast(rows, "float32") / total
    parts = [tf.cast(share, value.dtype) * value for value in values]
    return replica.all_reduce("sum", parts)


def zero_grad(variables):
    """Nothing: gradients are results here."""


def enable_determinism():
    """See `keras_dtkd.backend.enable_determinism`."""
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()


def get_rng_state():
    """None: Keras keeps a seed for each layer."""
    return {}


def set_rng_state(states):
    """Nothing."""


def device_info():
    """See `keras_dtkd.backend.device_info`."""
    import tensorflow as tf

    cards = tf.config.list_logical_devices("GPU")
    if not cards:
        return "cpu", None
    physical = tf.config.list_physical_devices("GPU")[0]
    details = tf.config.experimental.get_device_details(physical)
    memory = tf.config.experimental.get_memory_info(cards[0].name)
    return details.get("device_name", "gpu"), memory["peak"]


def runs_channels_first():
    """Whether one convolution of one pixel succeeds."""
    import tensorflow as tf

    pixel = tf.zeros((1, 1, 1, 1))
    try:
        tf.nn.conv2d(pixel, pixel, 1, "VALID", data_format="NCHW")
    except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError):
        return False
    return True


def no_grad():
    """Nothing: the teacher speaks before the tape opens."""
    return contextlib.nullcontext()


def building_scope(model):
    """The strategy the Distiller was made under."""
    return model.distribute_strategy.scope()


def compiled_teacher_forward(teacher):
    """See `keras_dtkd.backend.compiled_teacher_forward`."""
    return lambda x: backend.teacher_forward(teacher, x)


def with_teacher_variables(model, function, teacher):
    """No more than not to be interrupted: a graph reads variables where they are."""
    return model.held.interrupts.whole(function)


@contextlib.contextmanager
def training_session(model, training):
    """See `keras_dtkd.backend.training_session`."""
    strategy = model.distribute_strategy
    count = strategy.num_replicas_in_sync
    # The default strategy has no such list.
    if count > 1 and count > len(strategy.extended.worker_devices):
        raise ValueError(
            "`Distiller`: Keras 3 cannot `fit` any model under a "
            f"`{type(strategy).__name__}` with several workers. Use "
            "`MirroredStrategy` for the devices of one machine, or the JAX or PyTorch "
            "backend for several machines."
        )
    for variable in model.trainable_variables if training else ():
        if not strategy.extended.variable_created_in_scope(variable.value):
            raise ValueError(
                f"`Distiller`: {variable.path} was not created under the Distiller's "
                f"strategy, a `{type(strategy).__name__}`. Create the student, the "
                "losses, the Distiller, and a teacher that is trained too, inside the "
                "same `with strategy.scope():`."
            )
    yield


def all_reduced_metrics(model):
    """Nothing: a strategy's metrics are summed when they are read."""
    return contextlib.nullcontext()
