"""Data becomes what the models take, by the student's own KerasHub preprocessor."""

import keras
import numpy as np

from keras_dtkd.core import arrays
from keras_dtkd.core.preprocessors import find_image_converter
from keras_dtkd.preparation import images
from keras_dtkd.views import Stored


def preprocess(distiller, x, y=None, kwargs=None, rolls_out=False):
    """Text as token ids, images as `images.preprocess`; all other data as it is.

    Args:
        distiller: Its student's preprocessor is used, as in the student's own `fit`.
        x: Whatever `fit` takes. Text is an array or a list of strings, a dict of them,
            or an iterator or `tf.data.Dataset` of batches of them.
        y: Labels, if any.
        kwargs: Further arguments of the run, in which `sample_weight` and
            `validation_data` are replaced. Optional.
        rolls_out: Whether the texts are prompts for the Distiller's rollout.

    Returns:
        `(x, y)`.
    """
    student, kwargs = distiller.student, {} if kwargs is None else kwargs
    if find_image_converter(student) is not None:
        views = distiller.views.values()
        shown = [view.column for view in views if isinstance(view, Stored)]
        return images.preprocess(student, x, y, kwargs, shown)
    preprocessor = getattr(student, "preprocessor", None)
    if preprocessor is None:
        if _is_text(x):
            raise ValueError(
                "`Distiller`: the inputs are text, and the student has no preprocessor "
                "to make token ids of it. Give token ids, or a KerasHub model with its "
                "preprocessor."
            )
        return x, y
    function = student.preprocess_samples
    if isinstance(y, list) and _is_text(y):
        y = np.asarray(y)
    validation = kwargs.get("validation_data")
    if not isinstance(validation, tuple) and _is_text(validation):
        kwargs["validation_data"] = _convert(function, validation)
    elif isinstance(validation, list | tuple):
        parts = keras.utils.unpack_x_y_sample_weight(validation)
        kwargs["validation_data"] = _convert(function, *parts)
    elif validation is not None:
        kwargs["validation_data"] = _convert_batches(function, validation)
    if rolls_out and distiller.rollout is not None:

        def function(x, y=None, sample_weight=None):
            if distiller.rollout.uses_data:
                raise ValueError(
                    f"`{type(distiller.rollout).__name__}`: text does not show where "
                    "the responses begin. Give token ids with a `response_mask`."
                )
            length = distiller.rollout.max_length
            prompts = preprocessor.generate_preprocess(x, sequence_length=length)
            return keras.utils.pack_x_y_sample_weight(prompts, y, sample_weight)

    if not _is_text(x):
        return _convert_batches(function, x), y
    converted = _convert(function, x, y, kwargs.get("sample_weight"))
    x, y, weights = keras.utils.unpack_x_y_sample_weight(converted)
    if weights is not None:
        kwargs["sample_weight"] = weights
    return x, y


def preprocess_data(distiller, data):
    """As `preprocess`, of a tuple `(x, y, sample_weight)`, text, or an iterable."""
    is_tuple = isinstance(data, tuple)
    parts = (
        keras.utils.unpack_x_y_sample_weight(data) if is_tuple else (data, None, None)
    )
    options = {"sample_weight": parts[2]}
    x, y = preprocess(distiller, parts[0], parts[1], options)
    if not is_tuple and y is None:
        return x
    return keras.utils.pack_x_y_sample_weight(x, y, options["sample_weight"])


def _is_text(x):
    """Whether all of some data is strings."""
    leaves = keras.tree.flatten(x) if isinstance(x, dict | list | tuple) else [x]
    return bool(leaves) and all(map(_is_text_leaf, leaves))


def _is_text_leaf(leaf):
    dtype = getattr(leaf, "dtype", None)
    if dtype is None:
        return isinstance(leaf, str)
    kind = getattr(dtype, "kind", "")
    if kind == "O":
        return leaf.size > 0 and isinstance(leaf.flat[0], str | bytes)
    return kind in ("U", "S", "T") or "string" in str(dtype)


def _convert(function, x, y=None, sample_weight=None):
    """One batch of text, or all of it, as NumPy; other data as it is."""
    if not _is_text(x):
        return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
    if isinstance(x, dict):
        x = {name: _to_list(part) for name, part in x.items()}
    elif isinstance(x, tuple):
        x = tuple(map(_to_list, x))
    else:
        x = _to_list(x)
    result = keras.utils.unpack_x_y_sample_weight(function(x, y, sample_weight))
    # Preprocessors may give TensorFlow's tensors on other backends.
    return keras.utils.pack_x_y_sample_weight(*arrays.to_numpy_arrays(result))


def _convert_batches(function, data):
    if hasattr(data, "element_spec"):
        spec = data.element_spec
        if not _is_text(spec[0] if isinstance(spec, tuple) else spec):
            return data
        return data.map(lambda *batch: function(*batch))
    if not hasattr(data, "__next__"):
        return data
    # A list is a batch of strings, a tuple has labels too.
    return (_convert(function, *(b if isinstance(b, tuple) else (b,))) for b in data)


def _to_list(texts):
    # Tokenizers take lists of strings, and no arrays.
    texts = arrays.to_numpy(texts).tolist() if hasattr(texts, "dtype") else texts
    return [t.decode() if isinstance(t, bytes) else t for t in texts]
