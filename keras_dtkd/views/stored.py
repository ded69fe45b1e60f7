"""Another version of each image, kept with the data."""

import keras
import numpy as np
from keras import ops

from keras_dtkd.core.arrays import to_numpy
from keras_dtkd.core.columns import get_columns
from keras_dtkd.core.issue import ERROR, WARNING, Issue
from keras_dtkd.views.base import BuiltInView

# Versions of the same images differ by less.
MAX_RANGE_RATIO = 10.0


@keras.saving.register_keras_serializable("keras_dtkd")
class Stored(BuiltInView):
    """A column of the data in place of the batch, such as adversarial images.

    The data brings it with each batch, see `datasets.with_columns`. In contrast to
    other views, the student's pass on it is in inference mode unless `inference=False`:
    BatchNorm's statistics stay those of the images themselves. The teacher runs on it
    too, so that it cannot be a stored one.

    Args:
        column: Name of the column, of the inputs' shape. Floats are shown as they are;
            8-bit integers from 0 to 255 are spread over `range`.
        range: `(lowest, highest)` value of the inputs, which 0 and 255 stand for:
            numbers, or lists that broadcast against one input. As `range` of
            `keras_dtkd.attacks`.
        name: What losses call it by. The name of the column unless given.
        **kwargs: `inference` and `student_only`, see `View`.

    Raises:
        TypeError: `column` is no name.
        ValueError: A `range` of another form. Before the first step: data without the
            column, or one of another shape or dtype.

    Example:

    >>> x = with_columns(images, adversarial=attacks.load("adversarial", teacher))
    >>> losses = [FeatureMSE(levels), AdversarialFeatures(levels)]
    >>> Distiller(teacher, student, losses, views=Stored("adversarial")).fit(x, y)
    """

    def __init__(self, column, range=(0.0, 1.0), name=None, inference=True, **kwargs):
        if not isinstance(column, str) or not column:
            raise TypeError(
                "`Stored`: `column` is the name of a column of the data. Received: "
                f"column={column!r}. Give the images themselves to the data: "
                "`datasets.with_columns(x, adversarial=images)`."
            )
        layer = keras.layers.Identity(dtype="float32")
        super().__init__(layer, name=name or column, inference=inference, **kwargs)
        self.column = column
        try:
            low, high = (np.asarray(bound, "float32") for bound in range)
            is_valid = bool(np.all(low < high))
        except (TypeError, ValueError):
            is_valid = False
        if not is_valid:
            raise ValueError(
                "`Stored`: `range` must be `(lowest, highest)`. Received: "
                f"range={range!r}."
            )
        self.range = low.tolist(), high.tolist()

    def call(self, x):
        raise TypeError("`Stored` shows a column: call `show(x, columns)`.")

    def show(self, x, columns):
        """The column of this batch, float32; or a `ValueError`."""
        self.check_column(x, columns)
        values, (low, high) = columns[self.column], self.range
        is_8bit = keras.backend.standardize_dtype(values.dtype) == "uint8"
        values = ops.cast(values, "float32")
        if not is_8bit:
            return values
        low, high = (ops.convert_to_tensor(each, "float32") for each in (low, high))
        return low + values * (high - low) / 255.0

    def check_column(self, x, columns):
        """Raises a `ValueError` for batches without the column, or one that differs."""
        if self.column not in columns:
            raise ValueError(
                f"`Stored`: the batches have no column {self.column!r}. Found: "
                f"{', '.join(sorted(columns)) or 'none'}. Give "
                f"`keras_dtkd.datasets.with_columns(x, {self.column}=images)` in place "
                "of `x`."
            )
        values = columns[self.column]
        is_nested = keras.tree.is_nested(x)
        if is_nested or tuple(values.shape[1:]) != tuple(x.shape[1:]):
            shapes = keras.tree.map_structure(lambda a: tuple(a.shape[1:]), x)
            raise ValueError(
                f"`Stored`: the column {self.column!r} has samples of shape "
                f"{tuple(values.shape[1:])}, and the inputs of shape {shapes}. Give "
                "one array of the same shape."
            )
        dtype = keras.backend.standardize_dtype(values.dtype)
        if dtype != "uint8" and not keras.backend.is_float_dtype(dtype):
            raise ValueError(
                f"`Stored`: the column {self.column!r} is of {dtype}. Give floats as "
                "the models take them, or 8-bit integers (uint8) from 0 to 255."
            )

    def issues(self, context):
        """Data without the column, or with one that does not fit."""
        columns = get_columns(context.sample.x)
        try:
            shown = self.show(context.inputs, columns)
        except ValueError as error:
            return [Issue("view_column", ERROR, str(error), cause=error)]
        ranges = [float(np.ptp(to_numpy(each))) for each in (shown, context.inputs)]
        if max(ranges) <= MAX_RANGE_RATIO * min(ranges):
            return []
        message = (
            f"`Stored`: the values of the column {self.column!r} have a range of "
            f"{ranges[0]:.3g}, and those of the inputs of {ranges[1]:.3g}."
        )
        hint = (
            "Store them as the models take them; for 8-bit integers set `range=` to "
            "the values that 0 and 255 stand for."
        )
        return [Issue("view_range", WARNING, message, hint)]
