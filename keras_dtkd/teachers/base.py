"""What a teacher is."""

import os
from typing import Any

import keras

from keras_dtkd.core import logits
from keras_dtkd.core.hooks import FitHooks
from keras_dtkd.teachers.sample_ids import check_sample_ids


class Teacher(FitHooks):
    """Base of all teachers: what a batch should look like to the student.

    A subclass overrides `outputs` and `fingerprint`, and states what else is true of
    it. A teacher is no Keras layer, so that nothing tracks, trains or saves it.

    Attributes:
        variables: Keras variables that `outputs` reads. Under JAX they become
            arguments of the compiled step.
        seed_variables: Those of them that hold a random state. They are never assigned:
            a Distiller keeps and advances a copy.
        model: The one Keras model that gives the outputs, whose layers losses may
            name; or `None`.
        models: All Keras models that take part.
        output_kind: A `keras_dtkd.core.logits.OutputKind`; `None` where layers, the
            compiled loss or the values show what the outputs are.
        output_names: Names of several outputs that come as a list, or `None`.
        needs_sample_ids: Whether `outputs` needs to know which samples these are.
        num_samples: How many samples it knows, where it knows some alone; or `None`.
        variables_name: What its variables are, for messages.

    Example:

    >>> class Rules(Teacher):
    ...     def outputs(self, x, sample_ids=None):
    ...         return 4.0 * ops.cast(x[:, :1] > 0, "float32") * ops.array([-1.0, 1.0])
    ...     def fingerprint(self):
    ...         return "positive"
    >>> Distiller(Rules(), student).fit(x, y)
    """

    variables: Any = ()
    seed_variables: Any = ()
    model: Any = None
    output_kind: Any = None
    output_names: Any = None
    needs_sample_ids: Any = False
    num_samples: Any = None
    variables_name = "weights"
    # A Distiller's `teacher_inputs`, in its copy: see `teachers.inputs`.
    input_source: Any = None

    @property
    def models(self):
        """The Keras models that take part: `model`, if there is one."""
        return () if self.model is None else (self.model,)

    def outputs(self, x, sample_ids=None):
        """The teacher's outputs for a batch: a tensor, list or dict.

        Called without gradient, and without lasting effect on `variables`.

        Args:
            x: The batch of inputs, as the data gave it or the Distiller's
                `teacher_inputs` made it.
            sample_ids: Indices of the samples in the data, where the data brings them.
        """
        raise NotImplementedError(
            f"`{type(self).__name__}` must override `outputs(x, sample_ids=None)`."
        )

    def fingerprint(self):
        """A text that changes when the outputs change."""
        raise NotImplementedError(
            f"`{type(self).__name__}` must override `fingerprint()`."
        )

    def copy_settings(self):
        """A teacher of the same models whose settings a Distiller may change."""
        return self

    def issues(self, context):
        """Sample ids that are missing; called once more before the teacher runs."""
        return list(check_sample_ids(self, context)) if self.needs_sample_ids else []


class ProtocolTeacher(Teacher):
    """An object with `outputs(x, sample_ids)`, `variables` and `fingerprint()`."""

    def __init__(self, wrapped):
        self.wrapped = wrapped

    @property
    def variables(self):
        return self.wrapped.variables

    def outputs(self, x, sample_ids=None):
        return self.wrapped.outputs(x, sample_ids)

    def fingerprint(self):
        return self.wrapped.fingerprint()


def known_output_kind(teacher):
    """The output kind that a teacher states or its layers show, or `None`."""
    if teacher.output_kind is None and teacher.model is not None:
        return logits.infer_output_kind(teacher.model)
    return teacher.output_kind


def resolve_teacher(teacher):
    """A `Teacher` from whatever a user may give.

    Args:
        teacher: A `keras.Model` (or any layer), a `Teacher`, a folder of stored
            outputs, or a list of them, which becomes an `Ensemble` of equal weights.
            An object that has `outputs(x, sample_ids)`, `variables` and
            `fingerprint()` is taken for a teacher that states no more than that.

    Raises:
        TypeError: It is none of these.
        ValueError: The list is empty; see `Stored` for a folder.
    """
    from keras_dtkd.teachers.ensemble import Ensemble
    from keras_dtkd.teachers.model_teacher import ModelTeacher
    from keras_dtkd.teachers.stored import Stored

    if isinstance(teacher, str | os.PathLike) and os.path.isdir(teacher):
        return Stored(teacher)
    if isinstance(teacher, list | tuple):
        return Ensemble(teacher)
    if isinstance(teacher, keras.layers.Layer):
        return ModelTeacher(teacher)
    if isinstance(teacher, Teacher):
        return teacher
    members = ("outputs", "fingerprint")
    is_protocol = all(callable(getattr(teacher, name, None)) for name in members)
    if is_protocol and hasattr(teacher, "variables") and not isinstance(teacher, type):
        return ProtocolTeacher(teacher)
    received = type(teacher).__name__
    if isinstance(teacher, str | os.PathLike):
        received += (
            f" {os.fspath(teacher)!r}, which is no folder. Load a file by "
            "`keras.saving.load_model`"
        )
    raise TypeError(
        "`teacher` must be a `keras.Model`, a `keras_dtkd.teachers.Teacher`, a folder "
        f"of stored outputs, or a list of them. Received: {received}."
    )
