"""Losses of `keras.distillation` in our Distiller."""

import keras
from keras import ops

from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.losses.base import DistillationLoss, snake_case


@keras.saving.register_keras_serializable("keras_dtkd")
class KerasDistillationLoss(DistillationLoss):
    """Wraps a loss that has `compute_loss(teacher_outputs, student_outputs)`.

    A `keras.distillation.LogitsDistillation` gets logits, a `FeatureDistillation` the
    outputs of the layers it names, recorded in the one forward pass. Such a loss
    reduces the batch itself: weights of samples scale its mean, no more. Beware that
    the default of `LogitsDistillation` is no KL divergence (Keras 3.12 to 3.15):
    `loss="kl_divergence"` becomes a function that the class does not recognise, and
    is applied to raw logits. Pass `loss=keras.losses.KLDivergence()`, or use
    `keras_dtkd.losses.KD`.

    Layers that a loss of your own keeps as attributes train with the student.

    Args:
        loss: The loss to wrap. The Distiller wraps one that is given as it is; by hand
            it gets a weight: `KerasDistillationLoss(LogitsDistillation(), weight=0.5)`.
        **kwargs: As `DistillationLoss`.

    Raises:
        ValueError: Before the first step, where the loss cannot compare what it is
            given, such as features of unlike shapes.
    """

    def __init__(self, loss, name=None, **kwargs):
        if isinstance(loss, dict):
            loss = keras.saving.deserialize_keras_object(loss)
        super().__init__(name=name or snake_case(type(loss).__name__), **kwargs)
        self.loss = loss
        # Such as a projection, which is trained and saved with this layer.
        self.inner_layers = list(iter_layers(getattr(loss, "__dict__", {})))
        for role in ("student", "teacher"):
            name = getattr(loss, f"{role}_layer_name", None)
            setattr(self, f"{role}_layers", (name,) if name else ())
        # What it is given shows where it is called: before the first step.
        self.built = False

    def compute(self, step):
        teacher = self._values_of(step, "teacher")
        student = self._values_of(step, "student")
        try:
            if hasattr(self.loss, "validate_outputs"):
                self.loss.validate_outputs(teacher, student)
            value = ops.cast(self.loss.compute_loss(teacher, student), "float32")
        except Exception as error:
            # Each backend has its own for shapes that do not fit.
            raise ValueError(self._shape_error(teacher, student, error)) from error
        if not self.built:
            self.built = True
        return value * ops.ones_like(step.student_logits[..., 0])

    def _shape_error(self, teacher, student, error):
        sides = []
        for role, values in (("teacher", teacher), ("student", student)):
            layers = getattr(self, f"{role}_layers")
            source = f"layer {layers[0]!r}" if layers else "outputs"
            shapes = keras.tree.map_structure(lambda a: tuple(a.shape), values)
            sides.append(f"the {role}'s {source} ({shapes})")
        return (
            f"`Distiller`: the loss {self.name!r} cannot compare "
            f"{' and '.join(sides)}. Choose layers of one shape, or give the student a "
            "layer that brings its features to the teacher's shape. Its own message: "
            f"{error}"
        )

    def _values_of(self, step, role):
        layers = getattr(self, f"{role}_layers")
        if layers:
            return getattr(step, f"{role}_features")[layers[0]]
        nested = keras.tree.is_nested(getattr(self.loss, "loss", None))
        return getattr(step, f"{role}_outputs" if nested else f"{role}_logits")
