"""What a model announces of its outputs, without being run."""

import keras

from keras_dtkd.core import logits


def compute_output_spec(model, x):
    """The outputs that a model announces for inputs.

    Args:
        model: A `keras.Model`.
        x: NumPy arrays, nested as the model takes them.

    Returns:
        `keras.KerasTensor`s, nested as the outputs.
    """
    return model.compute_output_spec(
        keras.tree.map_structure(lambda a: keras.KerasTensor(a.shape, a.dtype.name), x)
    )


def output_kind_of(model, key, names=None):
    """As `logits.infer_output_kind`, of one of a model's several outputs.

    Args:
        model: A `keras.Model`.
        key: Its name or index, see `logits.select_output`.
        names: The model's `output_names`.
    """
    structure = getattr(model, "output", None)
    if not getattr(model, "outputs", None) or structure is None:
        return None
    return logits.infer_output_kind(model, logits.select_output(structure, key, names))
