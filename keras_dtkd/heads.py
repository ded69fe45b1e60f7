"""What kind of outputs two models give, found out before the first step."""

from typing import Any

import keras
import numpy as np

from keras_dtkd import backend, logits, teachers
from keras_dtkd.data import to_numpy

EACH_LABEL = (logits.SIGMOID, logits.BINARY)


class Outputs:
    """The output of one model that is distilled, and the head that gave it.

    Args:
        teacher: A `Teacher`; the student wrapped as one.
        role: `"teacher"` or `"student"`, for messages.
        sample: The `keras_dtkd.data.Sample`.
        key: The Distiller's `output`.
        from_logits: The Distiller's.
        loss: The loss that the model was compiled with, or `None`.
        look: Whether the values themselves are wanted.

    Attributes:
        shape: Of the output for the sample.
        values: The output as float32 NumPy, or `None` where it was not looked at.
        head: One of the heads of `keras_dtkd.logits`.
        nested: Whether the model has several outputs.

    Raises:
        ValueError: The output cannot be found, or is no logits.
    """

    def __init__(self, teacher, role, sample, key, from_logits, loss, look):
        self.role, self.key, self.from_logits = role, key, from_logits
        self.teacher, self.sample = teacher, sample
        self.model = getattr(teacher, "model", None)
        speaker = teacher if self.model is None else self.model
        self.names = getattr(speaker, "output_names", None)
        self.values: Any = None
        self._settle_members()
        self._specify()
        if look:
            self.look()
        self.head = self._each_label(self._head(), loss)

    def _settle_members(self):
        """What each member of an ensemble gives may show in its values alone."""
        if not isinstance(self.teacher, teachers.Ensemble):
            return
        count = len(self.teacher.members)
        found = [
            Outputs(
                member,
                f"{self.role}'s member {i} of {count}",
                self.sample,
                self.key,
                self.from_logits,
                None,
                False,
            )
            for i, member in enumerate(self.teacher.members, start=1)
        ]
        self.teacher.settle([o.head for o in found], any(o.nested for o in found))

    def _specify(self):
        if self.model is None:
            outputs = self.look()
        else:
            specs = keras.tree.map_structure(
                lambda a: keras.KerasTensor(a.shape, a.dtype.name), self.sample.x
            )
            outputs = self.model.compute_output_spec(specs)
        self.nested = isinstance(outputs, dict | list | tuple) and len(outputs) > 1
        output = self._pick(outputs)
        self.shape = tuple(output.shape)
        dtype = keras.backend.standardize_dtype(output.dtype)
        if len(self.shape) < 2 or not keras.backend.is_float_dtype(dtype):
            raise ValueError(
                f"`Distiller`: the {self.role}'s output is no logits: shape "
                f"{self.shape}, dtype {dtype}. Needed is `(batch, ..., classes)` of "
                "floats. Choose another output with `output=`, or another model."
            )

    def _pick(self, outputs):
        try:
            return logits.pick(outputs, self.key, self.names)
        except KeyError as error:
            known = ", ".join(repr(name) for name in error.args[0])
        if self.key is None:
            raise ValueError(
                f"`Distiller`: the {self.role} has several outputs. Say which one to "
                f"distil with `output=`. There are: {known}."
            )
        raise ValueError(
            f"`Distiller`: the {self.role} has no output {self.key!r}. `output=` may "
            f"be: {known}."
        )

    def look(self):
        """Runs the model on the sample, once."""
        speak, parts = backend.speaker(self.teacher), []
        count = len(keras.tree.flatten(self.sample.x)[0])
        for start in range(0, count, self.sample.batch):
            rows = slice(start, start + self.sample.batch)
            outputs = speak(keras.tree.map_structure(lambda a: a[rows], self.sample.x))  # noqa: B023
            output = keras.ops.cast(self._pick(outputs), "float32")
            parts.append(to_numpy(keras.ops.convert_to_numpy(output)))
        self.values = np.concatenate(parts)
        return outputs

    def _likely(self):
        if self.values is None:
            self.look()
        return logits.look_like_probabilities(self.values)

    def _head(self):
        stated = getattr(self.teacher, "head", None)
        if isinstance(stated, str):
            return stated
        told = self._told_by_layers()
        probabilities = told in (logits.SOFTMAX, logits.SIGMOID)
        if self.from_logits == "auto":
            if told is None:
                return logits.SOFTMAX if self._likely() else logits.LOGITS
            return told
        if self.from_logits:
            if probabilities or (told is None and self._likely()):
                raise ValueError(
                    f"`Distiller`: `from_logits=True`, but the {self.role} gives "
                    "probabilities: its last layer is a softmax or sigmoid, or its "
                    "outputs lie in [0, 1] and sum to 1. Use `from_logits='auto'`."
                )
            return logits.LOGITS
        if probabilities:
            return told
        likely = self._likely()
        if self.values.min() < 0 or self.values.max() > 1:
            raise ValueError(
                f"`Distiller`: `from_logits=False`, but the {self.role} gives values "
                f"from {self.values.min():.3g} to {self.values.max():.3g}, no "
                "probabilities. Use `from_logits='auto'`."
            )
        return logits.SOFTMAX if likely else logits.SIGMOID

    def _told_by_layers(self):
        if self.model is None:
            return None
        if not self.nested:
            return logits.head_by_layers(self.model)
        symbolic = getattr(self.model, "outputs", None)
        structure = getattr(self.model, "output", None)
        if not symbolic or structure is None:
            return None
        return logits.head_by_layers(self.model, self._pick(structure))

    def _each_label(self, head, loss):
        """One logit is a choice of two; several are, where the loss says so."""
        if head != logits.LOGITS:
            return head
        single = self.shape[-1] == 1
        return logits.BINARY if single or "binary" in loss_name(loss) else head


def find(distiller, sample, with_teacher=True):
    """The outputs of student and teacher, checked against each other.

    Args:
        distiller: The Distiller.
        sample: The `keras_dtkd.data.Sample`.
        with_teacher: Whether the teacher will be heard.

    Returns:
        `(student, teacher)`, two `Outputs`; the second may be `None`.

    Raises:
        ValueError: One gives no logits, or they do not fit together.
    """
    key, from_logits = distiller.output_key, distiller.from_logits
    loss = distiller.loss if distiller.compiled else None
    loss = loss or (distiller.student.loss if distiller.student.compiled else None)
    student = Outputs(
        teachers.Live(distiller.student),
        "student",
        sample,
        key,
        from_logits,
        loss,
        False,
    )
    _judged_by_label(distiller, student)
    if not with_teacher:
        return student, None
    teacher = Outputs(
        distiller.held.teacher, "teacher", sample, key, from_logits, None, True
    )
    if not np.isfinite(teacher.values).all():
        raise ValueError(
            "`Distiller`: the teacher's first outputs hold NaN or infinity. Look at "
            "its inputs and its precision (float16 overflows at 65504)."
        )
    if student.shape[-1] != teacher.shape[-1]:
        raise ValueError(
            f"`Distiller`: the teacher gives {teacher.shape[-1]} classes and the "
            f"student {student.shape[-1]} (last axes of their outputs). Give both the "
            "same classes, or choose an output with `output=`."
        )
    if student.shape[1:] != teacher.shape[1:]:
        raise ValueError(
            "`Distiller`: teacher and student give outputs of different shapes, "
            f"{teacher.shape} and {student.shape}. Distillation compares them position "
            "by position."
        )
    _judged_by_label(distiller, teacher)
    _agree(student, teacher)
    return student, teacher


def _judged_by_label(distiller, outputs):
    """A loss may ask that logits be a choice for each label."""
    for name, loss in distiller.distillation_losses.items():
        if not getattr(loss, "each_label", False):
            continue
        if logits.SOFTMAX in (outputs.head, *getattr(outputs.teacher, "heads", ())):
            raise ValueError(
                f"`Distiller`: `{name}` judges each label by itself, but the "
                f"{outputs.role} ends in a softmax, which chooses one class. Give it a "
                "linear or sigmoid head, or take another loss."
            )
        _by_label(outputs)


def _by_label(outputs):
    if outputs.head == logits.LOGITS:
        outputs.head = logits.BINARY
        if isinstance(outputs.teacher, teachers.Ensemble):
            outputs.teacher.each_label()


def _agree(student, teacher):
    """Logits beside a sigmoid are a choice for each label too."""
    if (student.head in EACH_LABEL) == (teacher.head in EACH_LABEL):
        return
    for outputs in (student, teacher):
        _by_label(outputs)
    if logits.SOFTMAX in (student.head, teacher.head):
        raise ValueError(
            f"`Distiller`: the student ends in {student.head} and the teacher in "
            f"{teacher.head}: one chooses a class, the other judges each label by "
            "itself. Give both the same kind of head."
        )


def loss_name(loss):
    """A loss's name in lower case; empty for several losses, or none."""
    if loss is None or isinstance(loss, dict | list | tuple):
        return ""
    name = loss if isinstance(loss, str) else getattr(loss, "name", None)
    return str(name or getattr(loss, "__name__", "")).lower()
