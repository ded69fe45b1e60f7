"""A teacher's forward pass, which changes nothing of the teacher."""

import keras

from keras_dtkd import backend
from keras_dtkd.core.arrays import num_samples, take_rows, to_tensors
from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.teachers.inputs import input_variables, read_batch


def without_effect(
    teacher, function, variable_values=None, seeds=(), other_variables=()
):
    """Calls a function that runs the teacher, in a scope that keeps it as it is.

    `variable_values`, if any, are used for `teacher.variables`, in order; `None` among
    them stands for what the variable holds now. `seeds` are
    `keras.random.SeedGenerator`s that hold and advance the teacher's random state in
    place of its own, one for each of `teacher.seed_variables`. The function may read
    `other_variables` too.
    """
    random_states = list(zip(teacher.seed_variables, seeds, strict=False))
    others = [*other_variables, *input_variables(teacher)]
    mapping = [(variable, variable.value) for variable in others]
    mapping += [(variable, seed.state.value) for variable, seed in random_states]
    if variable_values is not None:
        values = [
            variable.value if value is None else value
            for variable, value in zip(teacher.variables, variable_values, strict=True)
        ]
        mapping = [*zip(teacher.variables, values, strict=True), *mapping]
    # The scope keeps what the teacher might assign (a counter, statistics) from its
    # variables, on every backend.
    with backend.no_grad(), keras.StatelessScope(mapping) as scope:
        result = function()
    for variable, seed in random_states:
        seed.state.assign(scope.get_current_value(variable))
    return result


def run_teacher(teacher, x, variable_values=None):
    """The teacher's outputs for a batch: no gradient, no lasting effect."""
    return without_effect(
        teacher, lambda: teacher.outputs(*read_batch(teacher, x)), variable_values
    )


def run_on_sample(teacher, sample):
    """Yields the teacher's outputs for each batch of a `data_peek.Sample`."""
    forward = compile_teacher(teacher)
    for start in range(0, num_samples(sample.x), sample.batch_size):
        batch = take_rows(sample.x, slice(start, start + sample.batch_size))
        # Tensors, as in a step.
        yield forward(to_tensors(batch))


def compile_teacher(teacher, name="the teacher"):
    """`run_teacher` of a batch, compiled under JAX, and under torch where that pays."""
    outputs = compile_forward(
        teacher, lambda x: teacher.outputs(*read_batch(teacher, x)), name=name
    )

    def forward(x):
        return without_effect(teacher, lambda: outputs(x))

    return compile_on_jax(teacher.variables, forward)


def compile_forward(teacher, function, when="auto", name="the teacher"):
    """A function that runs the teacher, for use in `without_effect`.

    It is compiled under torch, see `keras_dtkd.backend.base.Backend.compile_forward`,
    unless the teacher has no models or reads outputs by their ids.
    """
    if not teacher.models or teacher.needs_sample_ids:
        return function
    variables = [*teacher.variables, *input_variables(teacher)]
    variables = list({id(variable): variable for variable in variables}.values())
    when = when_to_compile(teacher.models, when)
    layers = [*teacher.models, getattr(teacher.input_source, "source", None)]
    return backend.compile_forward(function, variables, name, when, layers)


def when_to_compile(models, when, training=False):
    """`when`, but no `"auto"` for layers that take minutes to compile, or do not end.

    Recurrent layers, of which a graph has each step; in training, random changes of
    images.
    """

    def is_slow(layer):
        is_random = training and hasattr(layer, "get_random_transformation")
        return is_random or isinstance(layer, keras.layers.RNN)

    return False if when == "auto" and any(map(is_slow, iter_layers(models))) else when


def compile_on_jax(variables, function):
    """A function that reads variables, compiled under JAX, whose eager mode is slow."""
    is_jax = backend.backend_name() == "jax"
    return backend.jit(variables, function) if is_jax else function
