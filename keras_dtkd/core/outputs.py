"""What a model announces of its outputs, without being run."""

import keras

from keras_dtkd.core import logits


def compute_output_spec(model, x, **kwargs):
    """The outputs that a model announces for inputs.

    Args:
        model: A `keras.Model`.
        x: NumPy arrays, nested as the model takes them.
        **kwargs: Further arguments of its call, such as `training`.

    Returns:
        `keras.KerasTensor`s, nested as the outputs.
    """
    x = keras.tree.map_structure(lambda a: keras.KerasTensor(a.shape, a.dtype.name), x)
    return model.compute_output_spec(x, **kwargs)


def symbolic_output(model, key, names=None):
    """One of the symbolic outputs of a model that has them, else `None`.

    Args:
        model: A `keras.Model`, or `None`.
        key: The output's name or index, see `logits.select_output`.
        names: The model's `output_names`.
    """
    structure = getattr(model, "output", None)
    if not getattr(model, "outputs", None) or structure is None:
        return None
    return logits.select_output(structure, key, names)


def output_kind_of(model, key, names=None):
    """As `logits.infer_output_kind`, of one of a model's several outputs."""
    output = symbolic_output(model, key, names)
    return None if output is None else logits.infer_output_kind(model, output)
