"""The loss that a model was compiled with, and what belongs to one of its outputs."""

import keras

from keras_dtkd.core.arguments import accepts_argument
from keras_dtkd.core.arrays import flatten_deep

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
# By their names and those of their functions.
REGRESSION_LOSSES = {
    *("mse", "mean_squared_error", "mae", "mean_absolute_error", "mape"),
    *("mean_absolute_percentage_error", "msle", "mean_squared_logarithmic_error"),
    *("huber", "huber_loss", "log_cosh", "logcosh", "poisson"),
}


def compiled_loss(model):
    """The loss that a model was compiled with, or `None`."""
    return model.loss if getattr(model, "compiled", False) else None


def declared_from_logits(loss):
    """The `from_logits` of a cross-entropy or its name; `None` where it has none."""
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


def select_for_output(values, name, index):
    """The loss or labels of one output, by name or index."""
    values = flatten_deep(values)
    if isinstance(values, dict):
        # A single one is that of the only output, which has no name.
        is_only = name is None and len(values) == 1
        return next(iter(values.values())) if is_only else values.get(name)
    if isinstance(values, list | tuple):
        is_known = index is not None and -len(values) <= index < len(values)
        return values[index] if is_known else None
    return values


def canonical_loss_name(loss):
    """A loss's name in lower case; empty for several losses, or none."""
    if loss is None or isinstance(loss, dict | list | tuple):
        return ""
    for known, classes in CROSS_ENTROPIES.items():
        if isinstance(loss, classes):
            return known
    name = loss if isinstance(loss, str) else getattr(loss, "name", None)
    return str(name or getattr(loss, "__name__", "")).lower()


def compute_own_loss(model, x, y, outputs, sample_weight, training):
    """Calls the model's own `compute_loss`."""
    kwargs = {"x": x, "y": y, "y_pred": outputs, "sample_weight": sample_weight}
    # Keras added `training` later than many classes were written.
    if accepts_argument(model.compute_loss, "training"):
        kwargs["training"] = training
    return model.compute_loss(**kwargs)
