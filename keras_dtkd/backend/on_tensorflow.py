"""TensorFlow."""

import contextlib

from keras_dtkd import backend


def replicas():
    """See `keras_dtkd.backend.replicas`."""
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def processes():
    """One: `tf.distribute` across machines fails in Keras 3."""
    return 0, 1


def no_gradient():
    """Nothing: the teacher speaks before the tape opens."""
    return contextlib.nullcontext()


def building_scope(model):
    """The strategy the Distiller was made under."""
    return model.distribute_strategy.scope()


def speaker(teacher):
    """See `keras_dtkd.backend.speaker`."""
    return lambda x: backend.hear(teacher, x)


def tell(model, function, teacher):
    """The function as it is: a graph reads variables where they are."""
    return function


@contextlib.contextmanager
def session(model, training):
    """See `keras_dtkd.backend.session`."""
    import tensorflow as tf

    if isinstance(model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
        raise ValueError(
            "`Distiller`: Keras 3 cannot `fit` any model under "
            "`MultiWorkerMirroredStrategy`. Use `MirroredStrategy` for the devices of "
            "one machine, or the JAX or PyTorch backend for several machines."
        )
    yield


def metrics_of_all(model):
    """Nothing: a strategy's metrics are summed when they are read."""
    return contextlib.nullcontext()
