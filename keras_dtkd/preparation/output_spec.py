"""What kind of output a model gives, found out before the first step."""

from typing import Any

import keras
import numpy as np

from keras_dtkd import backend, teachers
from keras_dtkd.core import logits
from keras_dtkd.core.arrays import describe_shapes, num_samples, to_numpy
from keras_dtkd.core.compiled_loss import (
    canonical_loss_name,
    declared_from_logits,
    select_for_output,
)
from keras_dtkd.teachers import sample_ids


class OutputSpec:
    """The output of one model that is distilled, and the head that gave it.

    Args:
        teacher: A `Teacher`; the student wrapped as one.
        role: `"teacher"` or `"student"`, for messages.
        sample: The `keras_dtkd.preparation.data_peek.Sample`.
        key: The Distiller's `output`.
        from_logits: The Distiller's.
        loss: The loss that the model was compiled with, or `None`.
        look: Whether the values themselves are wanted.
        who: Who speaks in messages.

    Attributes:
        shape: Of the output for the sample.
        shapes: Of all outputs, by name; `None` names the only one.
        values: The output as float32 NumPy, or `None` where it was not looked at.
        head: One of the heads of `keras_dtkd.core.logits`.
        nested: Whether the model has several outputs.

    Raises:
        ValueError: The output cannot be found, or is no logits.
    """

    def __init__(
        self, teacher, role, sample, key, from_logits, loss, look, who="Distiller"
    ):
        self.who, self.role = who, role
        self.key, self.from_logits = key, from_logits
        self.teacher, self.sample = teacher, sample
        self.model = getattr(teacher, "model", None)
        speaker = teacher if self.model is None else self.model
        self.names = getattr(speaker, "output_names", None)
        self.loss = select_for_output(loss, key, _output_index(key, self.names))
        self.values: Any = None
        self._settle_members()
        self._specify()
        if look:
            self.look()
        self.head = self._each_label(self._head())

    def _settle_members(self):
        """What each member of an ensemble gives may show in its values alone."""
        if not isinstance(self.teacher, teachers.Ensemble):
            return
        count = len(self.teacher.members)
        found = [
            OutputSpec(
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
            x = sample_ids.model_inputs(self.sample.x)
            try:
                outputs = compute_output_spec(self.model, x)
            except Exception as error:
                raise ValueError(
                    f"`{self.who}`: the {self.role} cannot take the inputs: "
                    f"{describe_shapes(x)}. Give inputs of the shape that it was made for, or a "
                    f"model for these. Keras says: {error}"
                ) from error
        self.nested = isinstance(outputs, dict | list | tuple) and len(outputs) > 1
        self.shapes = self._shapes(outputs)
        output = self._pick(outputs)
        self.shape = tuple(output.shape)
        self._check(output)

    def _shapes(self, outputs):
        if isinstance(outputs, dict):
            return {name: tuple(output.shape) for name, output in outputs.items()}
        if not isinstance(outputs, list | tuple):
            return {None: tuple(outputs.shape)}
        names = self.names if self.names and len(self.names) == len(outputs) else None
        names = names or range(len(outputs))
        return {n: tuple(o.shape) for n, o in zip(names, outputs, strict=True)}

    def _check(self, output):
        dtype, shape = keras.backend.standardize_dtype(output.dtype), output.shape
        if len(shape) < 2 or not keras.backend.is_float_dtype(dtype):
            raise ValueError(
                f"`{self.who}`: the {self.role}'s output is no logits: shape "
                f"{tuple(shape)}, dtype {dtype}. Needed is `(batch, ..., classes)` of "
                "floats. Choose another output with `output=`, or another model."
            )

    def _pick(self, outputs):
        try:
            return logits.select_output(outputs, self.key, self.names)
        except KeyError as error:
            known = ", ".join(repr(name) for name in error.args[0])
        if self.key is None:
            raise ValueError(
                f"`{self.who}`: the {self.role} has several outputs. Say which one "
                f"with `output=`. There are: {known}."
            )
        raise ValueError(
            f"`{self.who}`: the {self.role} has no output {self.key!r}. `output=` may "
            f"be: {known}."
        )

    def look(self):
        """Runs the model on the sample, once."""
        speak, parts = backend.compiled_teacher_forward(self.teacher), []
        count = num_samples(self.sample.x)
        for start in range(0, count, self.sample.batch):
            some = slice(start, start + self.sample.batch)
            # Tensors, as in a step.
            x = keras.tree.map_structure(
                lambda a: keras.ops.convert_to_tensor(a[some]),  # noqa: B023
                self.sample.x,
            )
            outputs = speak(x)
            output = self._pick(outputs)
            # What a `Lambda` announces may not be what it gives.
            self._check(output)
            output = keras.ops.cast(output, "float32")
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
            return told or self._told_by_values()
        if self.from_logits:
            if probabilities or (told is None and self._likely()):
                raise ValueError(
                    f"`{self.who}`: `from_logits=True`, but the {self.role} gives "
                    "probabilities: its last layer is a softmax or sigmoid, or its "
                    "outputs lie in [0, 1] and sum to 1. Use `from_logits='auto'`."
                )
            return logits.LOGITS
        if probabilities:
            return told
        likely = self._likely()
        if self.values.min() < 0 or self.values.max() > 1:
            raise ValueError(
                f"`{self.who}`: `from_logits=False`, but the {self.role} gives values "
                f"from {self.values.min():.3g} to {self.values.max():.3g}, no "
                "probabilities. Use `from_logits='auto'`."
            )
        return logits.SOFTMAX if likely else logits.SIGMOID

    def _told_by_values(self):
        if self._likely():
            return logits.SOFTMAX
        inside = self.values.size and self.values.min() >= 0 and self.values.max() <= 1
        # Of a model that cannot be read, or whose user says that it is so.
        says = declared_from_logits(self.loss)
        readable = getattr(self.model, "operations", None)
        judged = says is False or (says is None and not readable)
        return logits.SIGMOID if inside and judged else logits.LOGITS

    def _told_by_layers(self):
        if self.model is None:
            return None
        if not self.nested:
            return logits.infer_output_kind(self.model)
        return output_kind_of(self.model, self.key, self.names)

    def _each_label(self, head):
        """One logit is a choice of two; several are, where the loss says so."""
        if head != logits.LOGITS:
            return head
        single = self.shape[-1] == 1
        return (
            logits.BINARY
            if single or "binary" in canonical_loss_name(self.loss)
            else head
        )


def compute_output_spec(model, x):
    """The outputs that a model announces for inputs, which are NumPy."""
    return model.compute_output_spec(
        keras.tree.map_structure(lambda a: keras.KerasTensor(a.shape, a.dtype.name), x)
    )


def output_kind_of(model, key, names=None):
    """As `logits.head_by_layers`, of one of a model's several outputs.

    Args:
        model: A `keras.Model`.
        key: Its name or index, see `logits.pick`.
        names: The model's `output_names`.
    """
    symbolic = getattr(model, "outputs", None)
    structure = getattr(model, "output", None)
    if not symbolic or structure is None:
        return None
    return logits.infer_output_kind(model, logits.select_output(structure, key, names))


def _output_index(key, names):
    if isinstance(key, int):
        return key
    return names.index(key) if names and key in names else 0
