"""The base classes of views: changed versions of a batch of inputs."""

import keras

from keras_dtkd.core.arguments import constructor_arguments
from keras_dtkd.core.hooks import FitHooks
from keras_dtkd.core.issue import ERROR, Issue
from keras_dtkd.core.layer_tree import find_data_format, iter_layers

# Layers that change each number of an image by itself.
ANY_FORMAT = (
    *(keras.layers.MixUp, keras.layers.RandomBrightness, keras.layers.RandomInvert),
    *(keras.layers.RandomPosterization, keras.layers.Solarization),
)


@keras.saving.register_keras_serializable("keras_dtkd")
class View(FitHooks, keras.layers.Layer):
    """Another look at the batch, on which teacher and student are compared too.

    Wraps any Keras preprocessing layer, which is always applied as in training. Every
    view in use costs one more pass of the student and, unless `student_only`, one of
    the teacher; BatchNorm of the student sees both batches. Labels are not handed to a
    loss on a view.

    Args:
        layer: A `keras.layers.Layer` from a batch of inputs to one of the same
            shape: `keras.layers.RandAugment(...)`, a `keras.Sequential` of several.
        name: What losses call it by. The class's name in lower case unless given.
        student_only: Whether the teacher is given the batch as it is: consistency
            training, without another pass of the teacher. It may then be a stored one.
        inference: Whether the student's pass on it is in inference mode: BatchNorm of
            the student takes no statistics of it, and nothing is dropped. The student
            learns from it all the same.

    Call arguments:
        x: A batch of inputs, one tensor.

    Returns:
        The batch to show both models, or the student.

    Raises:
        TypeError: `layer` is no Keras layer.
        ValueError: `student_only` with a layer that mixes samples.

    Example:

    >>> views = {"strong": View(keras.layers.RandAugment((0, 1)))}
    >>> losses = {"plain": KD(), "strong": KD(view="strong")}
    >>> Distiller(teacher, student, losses, views=views).fit(x, y)
    """

    def __init__(self, layer, name=None, student_only=False, inference=False, **kwargs):
        if not isinstance(layer, keras.layers.Layer):
            raise TypeError(
                f"`{type(self).__name__}` wraps a Keras layer. Received: {layer!r}."
                + (" That is the class: call it." if isinstance(layer, type) else "")
            )
        kwargs.setdefault("dtype", "float32")
        super().__init__(name=name or type(self).__name__.lower(), **kwargs)
        self.layer, self.student_only = layer, bool(student_only)
        self.inference = bool(inference)
        kinds = keras.layers.MixUp | keras.layers.CutMix
        mixing = [inner for inner in iter_layers(layer) if isinstance(inner, kinds)]
        if self.student_only and mixing:
            raise ValueError(
                f"`{type(self).__name__}`: with `student_only=True` the teacher is "
                "given the batch as it is, and "
                f"`keras.layers.{type(mixing[0]).__name__}` "
                "puts two samples into each: the teacher's output would be of one of "
                "them. Leave `student_only` out."
            )
        # What it wraps is built where it is first called, as preprocessing is.
        self.built = True

    def call(self, x):
        """The batch to show both models."""
        self.check(x)
        return self.layer(x, training=True)

    def show(self, x, columns):
        """The batch to show both models, from the inputs and the columns of the batch.

        Args:
            x: The batch of inputs, as the models take it.
            columns: By name, see `datasets.with_columns`.
        """
        return self(x)

    def check(self, x):
        """Raises a `ValueError` for several inputs, if the view changes one."""
        if keras.tree.is_nested(x) and type(self).call is View.call:
            raise ValueError(
                f"`{type(self).__name__}` changes one batch of images. The models have "
                f"several inputs: {keras.tree.map_structure(lambda a: a.shape, x)}. "
                "Write a view of your own: override `call(x)`."
            )

    def issues(self, context):
        """Inputs that `check` refuses, or whose channels the layers would not find."""
        try:
            self.check(context.inputs)
        except ValueError as error:
            return [Issue("view_inputs", ERROR, str(error), cause=error)]
        return [*self._find_format_issues(context)]

    def _find_format_issues(self, context):
        """Layers that take the channels of the images for rows, or rows for them."""
        shape = getattr(context.inputs, "shape", ())
        data_format = find_data_format(context.student)
        channels, rows = (1, 3) if data_format == "channels_first" else (3, 1)
        # A student may move the axes of its inputs itself.
        if len(shape) != 4 or shape[channels] >= shape[rows]:
            return
        for layer in iter_layers(self.layer):
            own = getattr(layer, "data_format", data_format)
            if own != data_format and not isinstance(layer, ANY_FORMAT):
                message = (
                    f"`{type(self).__name__}`: its `{type(layer).__name__}` takes "
                    f"images as {own!r}, and these are {data_format!r}, of shape "
                    f"{tuple(shape)}."
                )
                hint = f"Make it with `data_format={data_format!r}`."
                yield Issue("view_data_format", ERROR, message, hint)

    def compute_output_spec(self, x):
        """Of the shape and dtype that the inputs have; JAX could not infer it."""
        return keras.tree.map_structure(
            lambda a: keras.KerasTensor(a.shape, a.dtype), x
        )

    def get_config(self):
        layer = keras.saving.serialize_keras_object(self.layer)
        config = {**super().get_config(), "layer": layer}
        both = {"student_only": self.student_only, "inference": self.inference}
        return {**config, **both}

    @classmethod
    def from_config(cls, config):
        layer = keras.saving.deserialize_keras_object(config.pop("layer"))
        return cls(layer, **config)


class BuiltInView(View):
    """Base of the views that create their layer, from attributes of the view."""

    def check(self, x):
        super().check(x)
        # Keras's layers take three axes for a single image, and leave it as it is.
        if len(x.shape) != 4:
            raise ValueError(
                f"`{type(self).__name__}` changes images: inputs `(batch, height, "
                f"width, channels)`. Received inputs of shape {tuple(x.shape)}. Give "
                "images their axis of channels, `x[..., None]`; for other inputs take "
                "a Keras layer or a `View` of your own."
            )

    def get_config(self):
        config = super().get_config()
        del config["layer"]
        return {**config, **constructor_arguments(self, BuiltInView)}

    @classmethod
    def from_config(cls, config):
        return cls(**config)
