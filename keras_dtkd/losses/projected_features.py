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
            gets a copy, without its weights. It takes channels last, and computes in
            its own dtype. Projectors are trained with the student
            and saved with the Distiller; the student does not have them.
        **kwargs: See `DistillationLoss`.
    """

    def __init__(self, features, projector="auto", **kwargs):
        super().__init__(features, **kwargs)
        if isinstance(projector, keras.layers.Layer):
            # Its configuration: the layer itself would be trained and saved with it.
            projector = keras.saving.serialize_keras_object(projector)
        if not isinstance(projector, dict) and projector not in ("auto", None):
            raise ValueError(
                f"`{type(self).__name__}`: `projector` must be 'auto', None, or a "
                f"Keras layer. Received: {projector!r}."
            )
        self.projector = projector
        self.projectors: list = []
        self.pairs_of_one_size: set = set()

    def build_from_step(self, step):
        self.find_data_formats(step)
        for number, names in enumerate(self.features):
            if number == len(self.projectors):
                shapes = [tuple(each.shape) for each in self.read_pair(step, number)]
                self.projectors.append(self._make_projector(names, *shapes))
                self.build_pair(names, shapes[1])
        super().build_from_step(step)
        # In a compiled step TensorFlow may not know the size of maps.
        self.pairs_of_one_size = set()
        for number in range(len(self.features)):
            student, teacher = self.read_pair(step, number)
            if self.projectors[number](student).shape[1:-1] == teacher.shape[1:-1]:
                self.pairs_of_one_size.add(number)

    def build_pair(self, names, teacher_shape):
        """Makes further layers of a pair, `names`, whose projector was made. Optional.

        `teacher_shape` is that of the teacher's feature, `(batch, ..., channels)`.
        """

    def _make_projector(self, names, shape, teacher_shape):
        width = teacher_shape[-1]
        if isinstance(self.projector, dict):
            layer = keras.saving.deserialize_keras_object(dict(self.projector))
        elif shape[-1] == width:
            return keras.layers.Identity(dtype="float32")
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
        projector, training = self.projectors[number], self._is_training_step
        student = ops.cast(projector(student, training=training), "float32")
        if student.shape[-1] != teacher.shape[-1]:
            raise ValueError(
                f"`{type(self).__name__}`: the projector gives {student.shape[-1]} "
                f"channels, and the teacher's feature has {teacher.shape[-1]}."
            )
        if len(student.shape) == len(teacher.shape) == 4:
            is_known = None not in (*student.shape[1:3], *teacher.shape[1:3])
            if not is_known and number in self.pairs_of_one_size:
                return student
            return resize(student, teacher.shape[1:3])
        if tuple(student.shape[1:]) != tuple(teacher.shape[1:]):
            raise ValueError(
                f"`{type(self).__name__}`: features of shapes {tuple(student.shape)} "
                f"and {tuple(teacher.shape)} cannot be compared."
            )
        return student


def require_map(loss, names, shape):
    """A `ValueError` unless a feature is `(batch, height, width, channels)`."""
    if len(shape) != 4:
        raise ValueError(
            f"`{loss}`: the features {names[0]!r} and {names[1]!r} must be maps, "
            f"`(batch, height, width, channels)`. The teacher's is of shape {shape}."
        )


def resize(features, size):
    """Maps `(batch, height, width, channels)`, of another height and width.

    The mean of equal windows where the size is a fraction, else bilinear.
    """
    old = tuple(features.shape[1:3])
    if None in (*old, *size):
        raise ValueError(
            f"Maps of sizes {old} and {tuple(size)} cannot be resized: give the models "
            "inputs of a fixed size, or batches of one."
        )
    if old == tuple(size):
        return features
    if all(a % b == 0 for a, b in zip(old, size, strict=True)):
        window = tuple(a // b for a, b in zip(old, size, strict=True))
        return ops.average_pool(features, window, window, data_format="channels_last")
    return ops.image.resize(
        features, tuple(size), "bilinear", data_format="channels_last"
    )
