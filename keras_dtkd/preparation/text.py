"""Data becomes what the models take, by the student's own KerasHub preprocessor."""

import functools

import keras
import numpy as np

from keras_dtkd.core import arrays
from keras_dtkd.core.arrays import is_text
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
        if is_text(x):
            raise ValueError(
                "`Distiller`: the inputs are text, and the student has no preprocessor "
                "to make token ids of it. Give token ids, or a KerasHub model with its "
                "preprocessor."
            )
        return x, y
    makes_labels = hasattr(preprocessor, "generate_preprocess")
    function = student.preprocess_samples
    if makes_labels:
        function = functools.partial(_convert_causal, function)
    if isinstance(y, list) and is_text(y):
        y = np.asarray(y)
    validation = kwargs.get("validation_data")
    if not isinstance(validation, tuple) and is_text(validation):
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
            return prompts, y, sample_weight

    if not is_text(x):
        return _convert_batches(function, x), y
    x, y, weights = _convert(function, x, y, kwargs.get("sample_weight"))
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


def _convert(function, x, y=None, sample_weight=None):
    """`(x, y, sample_weight)`: text as NumPy token ids, other data as it is."""
    if not is_text(x):
        return x, y, sample_weight
    if isinstance(x, dict):
        x = {name: _to_list(part) for name, part in x.items()}
    elif isinstance(x, tuple):
        x = tuple(map(_to_list, x))
    else:
        x = _to_list(x)
    result = keras.utils.unpack_x_y_sample_weight(function(x, y, sample_weight))
    # Preprocessors may give TensorFlow's tensors on other backends.
    return tuple(arrays.to_numpy_arrays(result))


def _convert_causal(function, x, y=None, sample_weight=None):
    """As `function`, a preprocessor that makes labels and weights of the texts."""
    if y is not None:
        raise ValueError(
            "`Distiller`: the student's preprocessor makes labels of the texts, each "
            "token's next one, and others were given. Leave them out; where a response "
            "follows a prompt, put both in one text, or give token ids and weights."
        )
    x, y, weights = keras.utils.unpack_x_y_sample_weight(function(x))
    if sample_weight is not None:
        # KerasHub would overwrite them.
        weights = _weigh_texts(weights, sample_weight)
    return x, y, weights


def _weigh_texts(weights, sample_weight):
    """Weights of tokens, `(batch, time)`, times one weight a text."""
    if hasattr(sample_weight, "graph"):
        raise ValueError(
            "`Distiller`: weights of texts in a `tf.data.Dataset` do not count. Give "
            "token ids with a weight each, or arrays."
        )
    weights, sample_weight = map(arrays.to_numpy, (weights, sample_weight))
    if sample_weight.shape not in ((len(weights),), (len(weights), 1)):
        raise ValueError(
            f"`Distiller`: weights of shape {sample_weight.shape} for "
            f"{len(weights)} texts. Give one weight a text, or token ids with a weight "
            "each."
        )
    return weights.astype("float32") * sample_weight.reshape(-1, 1).astype("float32")


def _convert_batches(function, data):
    if hasattr(data, "element_spec"):
        spec = data.element_spec
        if not is_text(spec[0] if isinstance(spec, tuple) else spec):
            return data
        return data.map(lambda *batch: _to_batch(*function(*batch)))
    if isinstance(data, keras.utils.PyDataset) and is_text(_first_inputs(data)):
        raise ValueError(
            "`Distiller`: a `PyDataset` gives text, which is not converted in it. Give "
            "an iterator or a `tf.data.Dataset` of text, or token ids."
        )
    if not hasattr(data, "__next__"):
        return data
    # A list is a batch of strings, a tuple has labels too.
    batches = (batch if isinstance(batch, tuple) else (batch,) for batch in data)
    return (_to_batch(*_convert(function, *batch)) for batch in batches)


def _first_inputs(data):
    # Not `len`: a `PyDataset` may have no end.
    if data.num_batches == 0:
        return None
    return keras.utils.unpack_x_y_sample_weight(data[0])[0]


def _to_batch(x, y=None, sample_weight=None):
    """A batch as Keras takes it of a generator: always a tuple."""
    if sample_weight is not None:
        return x, y, sample_weight
    return (x,) if y is None else (x, y)


def _to_list(texts):
    # Tokenizers take lists of strings, and no arrays.
    texts = arrays.to_numpy(texts).tolist() if hasattr(texts, "dtype") else texts
    return [t.decode() if isinstance(t, bytes) else t for t in texts]
