"""The few things that Keras does not do the same way on every backend.

The only folder that may import `tensorflow`, `jax` or `torch`, and only inside
functions. Everything here works on the backend that Keras runs on.
"""

import importlib

import keras


def name():
    """The backend Keras runs on: `"tensorflow"`, `"jax"` or `"torch"`."""
    return keras.backend.backend()


def _current():
    return importlib.import_module(f"keras_dtkd.backend.on_{name()}")


def replicas():
    """How many replicas share a step under `tf.distribute`; 1 elsewhere."""
    return _current().replicas()


def hear(teacher, x, values=None):
    """What the teacher says of a batch: no gradient, no lasting effect.

    Args:
        teacher: A `keras_dtkd.teachers.Teacher`.
        x: The batch of inputs.
        values: Values to use for `teacher.variables`, in order. Optional.

    Returns:
        The teacher's outputs.
    """
    mapping = zip(teacher.variables, values, strict=True) if values is not None else ()
    # The scope keeps what the teacher might assign (a counter, statistics) from
    # its variables, on every backend.
    with _current().no_gradient(), keras.StatelessScope(list(mapping)):
        return teacher.outputs(x)


def speaker(teacher):
    """`hear` outside of any step, compiled where eager execution is slow.

    Args:
        teacher: A `keras_dtkd.teachers.Teacher`.

    Returns:
        A function of a batch of inputs.
    """
    return _current().speaker(teacher)


def tell(model, function, teacher=True):
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
    return _current().tell(model, function, teacher)


def session(model, training=True):
    """A context around `fit`, `evaluate` and their like, whatever happens inside.

    It leaves every variable of the model filled, and makes gradients and metrics
    those of all processes where several train together.
    """
    return _current().session(model, training)


def building_scope(model):
    """A context in which the variables of a model must be created."""
    return _current().building_scope(model)


def processes():
    """This process's rank and the number of processes that train by themselves.

    `(0, 1)` but under torch with `torch.distributed` initialized.
    """
    return _current().processes()


def metrics_of_all(model):
    """A context in which the model's metrics are those of all processes."""
    return _current().metrics_of_all(model)
