"""What a teacher takes of a batch, where that is not what the student takes."""

import copy
import inspect
from typing import Any

import keras

from keras_dtkd import backend
from keras_dtkd.core import arrays
from keras_dtkd.core.columns import get_columns
from keras_dtkd.core.issue import ERROR, Issue, describe_error
from keras_dtkd.teachers.sample_ids import split_sample_ids

CODE = "teacher_inputs"


class TeacherInputs:
    """A Distiller's `teacher_inputs`.

    Args:
        source: A function or Keras layer of the batch's inputs, or a column's name.

    Attributes:
        column: The name of the column, or `None`.
        variables: Those of a layer.
    """

    def __init__(self, source):
        self.source = source
        self.column = source if isinstance(source, str) else None
        self._options: Any = {}
        if isinstance(source, keras.layers.Layer):
            parameters = inspect.signature(source.call).parameters
            self._options = {"training": False} if "training" in parameters else {}

    @property
    def variables(self):
        return getattr(self.source, "variables", [])

    def __call__(self, x, columns):
        """The teacher's inputs, from the student's and the columns of a batch."""
        if self.column is None:
            return self.source(x, **self._options)
        if self.column not in columns:
            known = ", ".join(map(repr, columns)) or "none"
            name = self.column
            raise ValueError(
                f"`Distiller`: the batches have no column {name!r}, the "
                f"`teacher_inputs`. There are: {known}. Give `keras_dtkd.datasets."
                f"with_columns(x, {name}=...)` in place of `x`."
            )
        return columns[self.column]

    def issues(self, context):
        """Stored outputs, rollouts, views and losses that it does not go with."""
        teacher, problem, hint = context.teacher, None, "Leave it out."
        if teacher.needs_sample_ids and not teacher.models:
            problem = "the teacher's outputs are stored, and take no inputs"
        elif context.rollout is not None:
            problem = "a rollout makes sequences that both models take"
        elif getattr(self.source, "trainable_variables", ()):
            problem = "the layer has trainable weights, and nothing trains them"
            hint = "Freeze it: `layer.trainable = False`."
        elif self.column is not None:
            problem = self._find_column_problem(context)
            hint = "Give a function or a Keras layer of the inputs, or leave it out."
        if problem is None:
            return []
        return [Issue(CODE, ERROR, f"`Distiller`: `teacher_inputs`: {problem}.", hint)]

    def _find_column_problem(self, context):
        """A loss that needs the teacher's inputs to follow the student's, in words."""
        for name, loss in context.losses.items():
            view = context.views.get(loss.view)
            if view is not None and not view.student_only:
                return (
                    f"`{name}` is for the view {loss.view!r}, from which the column "
                    f"{self.column!r} is not computed"
                )
            if loss.input_gradient is not None and loss.teacher_input_gradient:
                return (
                    f"`{name}` takes the teacher's gradient with respect to the "
                    f"student's inputs, from which the column {self.column!r} is not "
                    "computed"
                )
        return None


def with_inputs(teacher, source):
    """A copy of a teacher that takes other inputs, `None` for the student's.

    Raises:
        TypeError: `source` is no function, layer or name.
    """
    if source is None:
        return teacher
    if not (callable(source) or isinstance(source, str)) or isinstance(source, type):
        hint = " That is the class: call it." if isinstance(source, type) else ""
        raise TypeError(
            "`teacher_inputs` must be a function or Keras layer of the "
            f"inputs, or the name of a column. Received: {source!r}.{hint}"
        )
    teacher = copy.copy(teacher)
    teacher.input_source = TeacherInputs(source)
    return teacher


def read_batch(teacher, x):
    """`(inputs, sample_ids)`: what `teacher.outputs` takes of a batch of the data."""
    inputs, sample_ids = split_sample_ids(x)
    return read_inputs(teacher, inputs, get_columns(x)), sample_ids


def read_sample(teacher, x):
    """As `read_batch`, of NumPy arrays, which they stay."""
    if teacher.input_source is None:
        return split_sample_ids(x)
    with backend.no_grad():
        inputs, _ = read_batch(teacher, arrays.to_tensors(x))
    inputs = keras.tree.map_structure(
        lambda a: None if a is None else keras.ops.convert_to_numpy(a), inputs
    )
    return inputs, split_sample_ids(x)[1]


def read_inputs(teacher, x, columns=None):
    """What a teacher's models take, from the student's inputs and the columns."""
    source = teacher.input_source
    return x if source is None else source(x, columns or {})


def input_variables(teacher):
    """The variables of the layer that makes a teacher's inputs, if there is one."""
    source = teacher.input_source
    return [] if source is None else source.variables


def find_input_issues(context):
    """`teacher_inputs` that do not go with the rest, or fail on the sample."""
    source = context.teacher.input_source
    issues = [] if source is None else source.issues(context)
    if source is None or issues:
        return issues
    try:
        _ = context.teacher_inputs
        return []
    except Exception as error:  # noqa: BLE001 - a function of the user's own
        own = str(error).startswith("`Distiller`")
        message = (
            "`Distiller`: `teacher_inputs` failed on a batch of the inputs: "
            f"{describe_error(error)}"
        )
        return [Issue(CODE, ERROR, str(error) if own else message, cause=error)]
