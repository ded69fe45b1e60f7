"""Images become what the models take, by the student's own KerasHub preprocessor."""

import keras
import numpy as np

from keras_dtkd.core import arrays
from keras_dtkd.core.columns import get_columns
from keras_dtkd.core.preprocessors import convert_images
from keras_dtkd.teachers.sample_ids import model_inputs

# Images that are converted at once.
BATCH_SIZE = 32


def preprocess(student, x, y, kwargs, shown=()):
    """The data as in the student's own `fit`: images converted, and boxes with them.

    Args:
        student: A model with an image preprocessor.
        x: Whatever `fit` takes.
        y: Labels, if any.
        kwargs: Further arguments of the run, in which `sample_weight` and
            `validation_data` are replaced.
        shown: Names of columns that views show to the models in place of the images.

    Returns:
        `(x, y)`.

    Raises:
        ValueError: Data that gives its batches by index; columns that are shown and
            have the shape of the images that are not converted yet.
    """

    def function(x, y=None, sample_weight=None):
        _check_columns(x, shown)
        return convert_images(student, x, y, sample_weight)

    validation = kwargs.get("validation_data")
    if validation is not None:
        is_tuple = isinstance(validation, list | tuple)
        parts = validation if is_tuple else (validation,)
        kwargs["validation_data"] = _convert(function, *parts)
    if not arrays.is_arrays(x):
        return _convert(function, x), y
    converted = _convert(function, x, y, kwargs.get("sample_weight"))
    x, y, weights = keras.utils.unpack_x_y_sample_weight(converted)
    if weights is not None:
        kwargs["sample_weight"] = weights
    return x, y


def _check_columns(x, shown):
    """Raises a `ValueError` for columns that look like images not converted yet."""
    columns = get_columns(x)
    for name in shown:
        if name in columns and columns[name].shape[1:] == model_inputs(x).shape[1:]:
            raise ValueError(
                f"`Distiller`: the student's preprocessor converts the images, but not "
                f"the column {name!r}, which a view shows in their place. Prepare the "
                "images first, and make the column of them: `x = keras.ops."
                "convert_to_numpy(student.preprocessor(x))`, then "
                "`student.preprocessor = None`, and the teacher's too."
            )


def _convert(function, x, y=None, sample_weight=None):
    if arrays.is_arrays(x):
        return _convert_arrays(function, x, y, sample_weight)
    if hasattr(x, "element_spec"):
        return x.map(lambda *batch: function(*batch))
    if hasattr(x, "__next__"):
        return (
            _convert_arrays(function, *(b if isinstance(b, tuple) else (b,))) for b in x
        )
    raise ValueError(
        "`Distiller`: the student has a preprocessor for images, and the data is a "
        f"`{type(x).__name__}`. Give arrays, a `tf.data.Dataset` or an iterator of "
        "batches; or convert the images in the data itself, and set "
        "`student.preprocessor = None`."
    )


def _convert_arrays(function, x, y=None, sample_weight=None):
    """NumPy, a few images at a time."""
    batches = []
    for start in range(0, arrays.num_samples(x), BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        batch = arrays.take_rows((x, y, sample_weight), rows)
        parts = keras.utils.unpack_x_y_sample_weight(function(*batch))
        batches.append(arrays.to_numpy_arrays(parts))
    return keras.utils.pack_x_y_sample_weight(
        *(
            None
            if parts[0] is None
            else keras.tree.map_structure(lambda *rows: np.concatenate(rows), *parts)
            for parts in zip(*batches, strict=True)
        )
    )
