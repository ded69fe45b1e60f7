"""What a teacher is."""

import os
from typing import Any, Protocol, runtime_checkable

import keras


@runtime_checkable
class Teacher(Protocol):
    """Whoever can say what a batch should look like.

    A teacher is no Keras layer, so that nothing tracks, trains or saves it.

    Attributes:
        variables: Keras variables that `outputs` reads. Under JAX they become
            arguments of the compiled step. Empty for stored outputs.

    A teacher that knows what its outputs are says so in an attribute `head`, one of
    the heads of `keras_dtkd.core.logits`; else its layers tell, or its values. One that
    cannot speak without `rows` has `needs_sample_ids = True`.
    """

    variables: list

    def outputs(self, x: Any, rows: Any = None) -> Any:
        """The teacher's outputs for a batch.

        Args:
            x: The batch of inputs, as the data gave it.
            rows: Indices of the samples in the data, where the data brings them.

        Returns:
            A tensor, list or dict. Called without gradient, and without lasting
            effect on `variables`.
        """
        ...

    def fingerprint(self) -> str:
        """A text that changes when what the teacher says changes."""
        ...


def resolve_teacher(teacher):
    """A `Teacher` from whatever a user may give.

    Args:
        teacher: A `keras.Model` (or any layer), a `Teacher`, a folder of stored
            outputs, or a list of them, which becomes an `Ensemble` of equal weights.

    Returns:
        A `Teacher`.

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
    if isinstance(teacher, Teacher) and not isinstance(teacher, type):
        return teacher
    raise TypeError(
        "`teacher` must be a `keras.Model` or an object with `outputs(x, rows)`, "
        "`variables` and `fingerprint()`, a folder of stored outputs, or a list of "
        "them. Received: "
        f"{type(teacher).__name__}."
    )


def iter_models(teacher):
    """The Keras models that speak for a teacher.

    Args:
        teacher: A `Teacher`.

    Returns:
        A list: its `model`, those of its `members`, or none.
    """
    model = getattr(teacher, "model", None)
    members = getattr(teacher, "members", ())
    return [model] * (model is not None) + [m for t in members for m in iter_models(t)]
