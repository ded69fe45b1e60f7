"""The hidden features of a model, to choose from."""

import keras

from keras_dtkd import backend
from keras_dtkd.core import arrays
from keras_dtkd.core.features import find_feature
from keras_dtkd.core.layer_tree import find_names
from keras_dtkd.training.feature_capture import capture


def features(model, x, verbose=1):
    """The names of a model's hidden features, with their shapes.

    Each is a name for the `features` of a loss, see `losses.FeatureLoss`. Any layer has
    its `name:inputs` too, which are not listed.

    Args:
        model: A `keras.Model`, as the student or the teacher.
        x: Inputs as the model takes them, arrays; the first sample is run.
        verbose: Whether to print a table.

    Returns:
        A dict: by name the shape, without the batch. Each of several tensors that a
        layer returns has its own name, `"fpn[P3]"` by its key or `"lstm[1]"` by its
        index. Layers that a forward pass does not call are left out.

    Example:

    >>> keras_dtkd.features(teacher, x[:1])
    """
    x = arrays.to_tensors(arrays.take_rows(x, slice(1)))
    if not model.built:
        model(x)
    names = [name for name, _ in find_names(model)]
    attention = [f"{name}:{part}" for name in names for part in ("scores", "weights")]
    names += [name for name in attention if _is_attention(model, name)]
    with backend.no_grad(), keras.StatelessScope(), capture(model, names) as found:
        model(x, training=False)
    shapes: dict = {}
    for name, values in found.items():
        layer, _, part = name.partition(":")
        suffix = f":{part}" if part else ""
        for call, value in enumerate(values):
            number = f"#{call}" if len(values) > 1 else ""
            for item, tensor in _list_items(value):
                shapes[f"{layer}{number}{suffix}{item}"] = tuple(tensor.shape)[1:]
    if verbose:
        width = max(map(len, shapes), default=0)
        for name, shape in shapes.items():
            print(f"{name:{width}}  {shape}")
    return shapes


def _list_items(value, suffix=""):
    """Pairs of the suffix of a name, and the tensor it stands for."""
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return [] if value is None else [(suffix, value)]
    items = (_list_items(each, f"{suffix}[{key}]") for key, each in value.items())
    return [pair for pairs in items for pair in pairs]


def _is_attention(model, name):
    try:
        feature = find_feature(model, name)
    except ValueError:
        return False
    # Of a softmax by itself, its inputs and outputs are just that.
    layer = find_feature(model, name.rpartition(":")[0]).layer
    return feature.part == "returned" or feature.layer is not layer
