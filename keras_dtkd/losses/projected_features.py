"""Features of the student, brought to the width and the size of the teacher's."""

import keras
from keras import ops

from keras_dtkd.losses.feature_base import FeatureLoss


class ProjectedFeatureLoss(FeatureLoss):
    """Base of the losses that need features of one shape.

    Args:
        features: See `FeatureLoss`.
        projector: `"auto"`: a `Dense` layer over the channels (a convolution of size 1)
            for each pair whose widths differ. `None`: none, and unlike widths are an
            error. Or a `keras.layers.Layer` to the teacher's width, of which each pair
            gets a copy. It takes channels last. Projectors are trained with the student
            and saved with the Distiller; the student does not have them.
        **kwargs: See `DistillationLoss`.
    """

    def __init__(self, features, projector="auto", **kwargs):
        super().__init__(features, **kwargs)
        is_layer = isinstance(projector, keras.layers.Layer)
        if not is_layer and projector not in ("auto", None):
            raise ValueError(
                f"`{type(self).__name__}`: `projector` must be 'auto', None, or a "
                f"Keras layer. Received: {projector!r}."
            )
        self.projector = projector
        self.projectors: list = []

    def build_from_step(self, step):
        for number, names in enumerate(self.features):
            if number == len(self.projectors):
                shapes = (tuple(each.shape) for each in self.read_pair(step, number))
                self.projectors.append(self._make_projector(names, *shapes))
        super().build_from_step(step)

    def _make_projector(self, names, shape, teacher_shape):
        width = teacher_shape[-1]
        if isinstance(self.projector, keras.layers.Layer):
            layer = type(self.projector).from_config(self.projector.get_config())
        elif shape[-1] == width:
            return keras.layers.Identity()
        elif self.projector is None:
            raise ValueError(
                f"`{type(self).__name__}`: the features {names[0]!r} and {names[1]!r} "
                f"have {shape[-1]} and {width} channels, and `projector` is None."
            )
        else:
            layer = keras.layers.Dense(width, dtype="float32", name="projector")
        layer.build((None, *shape[1:]))
        return layer

    def project(self, student, teacher, number):
        """The student's feature in the teacher's shape, `(batch, ..., channels)`."""
        student = self.projectors[number](student)
        if student.shape[-1] != teacher.shape[-1]:
            raise ValueError(
                f"`{type(self).__name__}`: the projector gives {student.shape[-1]} "
                f"channels, and the teacher's feature has {teacher.shape[-1]}."
            )
        if len(student.shape) == len(teacher.shape) == 4:
            return resize(student, teacher.shape[1:3])
        if tuple(student.shape[1:]) != tuple(teacher.shape[1:]):
            raise ValueError(
                f"`{type(self).__name__}`: features of shapes {tuple(student.shape)} "
                f"and {tuple(teacher.shape)} cannot be compared."
            )
        return student


def resize(features, size):
    """Maps `(batch, height, width, channels)`, of another height and width.

    The mean of equal windows where the size is a fraction, else bilinear.
    """
    old = tuple(features.shape[1:3])
    if old == tuple(size):
        return features
    if all(a % b == 0 for a, b in zip(old, size, strict=True)):
        window = tuple(a // b for a, b in zip(old, size, strict=True))
        return ops.average_pool(features, window, window, data_format="channels_last")
    return ops.image.resize(
        features, tuple(size), "bilinear", data_format="channels_last"
    )
