"""A teacher's forward pass, which changes nothing of the teacher."""

import keras

from keras_dtkd import backend
from keras_dtkd.core.arrays import num_samples
from keras_dtkd.teachers.sample_ids import split_sample_ids


def without_effect(teacher, function, variable_values=None, seeds=()):
    """Calls a function that runs the teacher, in a scope that keeps it as it is.

    Args:
        teacher: A `Teacher`.
        function: Of no arguments.
        variable_values: Values to use for `teacher.variables`, in order. Optional.
        seeds: `keras.random.SeedGenerator`s that hold the teacher's random state in
            place of its own, one for each of `teacher.seed_variables`. They advance.

    Returns:
        What the function returns.
    """
    mapping: list = []
    if variable_values is not None:
        mapping += zip(teacher.variables, variable_values, strict=True)
    random_states = list(zip(teacher.seed_variables, seeds, strict=False))
    mapping += [(variable, seed.state.value) for variable, seed in random_states]
    # The scope keeps what the teacher might assign (a counter, statistics) from its
    # variables, on every backend.
    with backend.no_grad(), keras.StatelessScope(mapping) as scope:
        result = function()
    for variable, seed in random_states:
        seed.state.assign(scope.get_current_value(variable))
    return result


def run_teacher(teacher, x, variable_values=None):
    """The teacher's outputs for a batch: no gradient, no lasting effect.

    Args:
        teacher: A `Teacher`.
        x: The batch of inputs, with or without sample ids.
        variable_values: See `without_effect`.

    Returns:
        A tensor, list or dict.
    """
    return without_effect(
        teacher, lambda: teacher.outputs(*split_sample_ids(x)), variable_values
    )


def run_on_sample(teacher, sample):
    """Yields the teacher's outputs for each batch of a sample, as `compile_teacher`.

    Args:
        teacher: A `Teacher`.
        sample: Has `x`, NumPy, nested as the data has it, and `batch_size`.
    """
    forward = compile_teacher(teacher)
    for start in range(0, num_samples(sample.x), sample.batch_size):
        batch = slice(start, start + sample.batch_size)
        # Tensors, as in a step.
        yield forward(
            keras.tree.map_structure(
                lambda a: keras.ops.convert_to_tensor(a[batch]),  # noqa: B023
                sample.x,
            )
        )


def compile_teacher(teacher):
    """`run_teacher` outside of any step, compiled under JAX, whose eager mode is slow.

    Args:
        teacher: A `Teacher`.

    Returns:
        A function of a batch of inputs.
    """
    if backend.backend_name() != "jax":
        return lambda x: run_teacher(teacher, x)
    return backend.jit(teacher.variables, lambda x: run_teacher(teacher, x))
