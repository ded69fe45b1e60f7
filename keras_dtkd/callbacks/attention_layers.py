"""The layers with an attention that has a temperature."""

import keras

from keras_dtkd.core.layer_tree import find_student, iter_layers


def find_attention_layers(caller, model):
    """Layers whose attribute `attention_temperature` is a variable, in order.

    Args:
        caller: Named in errors.
        model: A model, or a Distiller, whose student is searched.

    Returns:
        A list of layers, of one at least.

    Raises:
        ValueError: There is none.
    """
    searched = find_student(model)
    found = [
        layer
        for layer in iter_layers(searched)
        if isinstance(getattr(layer, "attention_temperature", None), keras.Variable)
    ]
    if not found:
        raise ValueError(
            f"`{caller}`: {searched.name!r} has no layer with an attention, such as "
            "`models.TaskAttention` in a `models.HierarchicalMixture`."
        )
    return found
