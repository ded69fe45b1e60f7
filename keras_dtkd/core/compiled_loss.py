"""The loss that a model was compiled with, and what belongs to one of its outputs."""

import keras

# However a user has named them.
CROSS_ENTROPIES = {
    "sparse_categorical_crossentropy": (keras.losses.SparseCategoricalCrossentropy,),
    "categorical_crossentropy": (
        keras.losses.CategoricalCrossentropy,
        keras.losses.CategoricalFocalCrossentropy,
    ),
    "binary_crossentropy": (
        keras.losses.BinaryCrossentropy,
        keras.losses.BinaryFocalCrossentropy,
    ),
}


def compiled_loss(model):
    """The loss that a model was compiled with, or `None`."""
    return model.loss if getattr(model, "compiled", False) else None


def declared_from_logits(loss):
    """What a cross-entropy says of the outputs it is for; `None` where it says nothing.

    A name stands for the loss with its defaults.
    """
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            return None
        # A function, whose default is False.
        return False if "crossentropy" in canonical_loss_name(loss) else None
    try:
        return loss.get_config().get("from_logits")
    except (AttributeError, NotImplementedError):
        return None


def select_for_output(part, name, place):
    """What of losses or labels belongs to one output.

    By its name, its place, or because it is alone.
    """
    if isinstance(part, dict):
        return part.get(name, next(iter(part.values())) if len(part) == 1 else None)
    if isinstance(part, list | tuple):
        return part[place] if place < len(part) else None
    return part


def canonical_loss_name(loss):
    """A loss's name in lower case; empty for several losses, or none."""
    if loss is None or isinstance(loss, dict | list | tuple):
        return ""
    for known, classes in CROSS_ENTROPIES.items():
        if isinstance(loss, classes):
            return known
    name = loss if isinstance(loss, str) else getattr(loss, "name", None)
    return str(name or getattr(loss, "__name__", "")).lower()
