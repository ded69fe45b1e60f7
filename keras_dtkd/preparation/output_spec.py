"""What kind of output each model gives, found out before the first step."""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_dtkd.core import logits
from keras_dtkd.core.arrays import describe_shapes, num_samples, to_numpy
from keras_dtkd.core.compiled_loss import (
    canonical_loss_name,
    compiled_loss,
    declared_from_logits,
    select_for_output,
)
from keras_dtkd.core.outputs import compute_output_spec, output_kind_of
from keras_dtkd.teachers import Ensemble, ModelTeacher
from keras_dtkd.teachers.forward import compile_teacher
from keras_dtkd.teachers.sample_ids import model_inputs
from keras_dtkd.validation.outputs import MULTILABEL_KINDS


@dataclasses.dataclass(frozen=True)
class OutputSpec:
    """The output of one model that is distilled.

    Attributes:
        role: `"teacher"` or `"student"`, for messages.
        shape: Of the output for the sample, `(batch, ..., classes)`.
        shapes: Of all outputs, by name; `None` names the only one.
        output_kind: One of the kinds of `keras_dtkd.core.logits`.
        names: The model's `output_names`, or `None`.
        is_multi_output: Whether the model has several outputs.
        member_kinds: Of an ensemble, the kinds of its members.
    """

    role: str
    shape: tuple
    shapes: Any
    output_kind: str
    names: Any = None
    is_multi_output: bool = False
    member_kinds: tuple = ()

    def to_dict(self):
        """A form for JSON."""
        return {**dataclasses.asdict(self), "shapes": list(self.shapes.items())}

    @classmethod
    def from_dict(cls, config):
        """From what `to_dict` gave."""
        shapes = {name: tuple(shape) for name, shape in config["shapes"]}
        return cls(**{**config, "shapes": shapes})


def infer_output_specs(distiller, sample, with_teacher=True):
    """The outputs of student and teacher. `validation.outputs` checks that they fit.

    Args:
        distiller: The Distiller.
        sample: The `data_peek.Sample`.
        with_teacher: Whether the teacher will run.

    Returns:
        `(student, teacher, teacher_values)`: two `OutputSpec`s, and the teacher's
        outputs for the sample as float32 NumPy. The last two may be `None`.

    Raises:
        ValueError: One gives no logits.
    """
    key, from_logits = distiller.distilled_output, distiller.from_logits
    losses = distiller.distillation_losses
    loss = compiled_loss(distiller) or compiled_loss(distiller.student)
    inference = _Inference(
        ModelTeacher(distiller.student), "student", sample, key, from_logits, loss
    )
    student = _apply_multilabel_losses(losses, inference.spec())
    if not with_teacher:
        return student, None, None
    model_teacher = distiller.teacher_reference.teacher
    teacher_inference = _Inference(
        model_teacher,
        "teacher",
        sample,
        key,
        from_logits,
        compiled_loss(model_teacher.model),
        evaluate=True,
    )
    teacher = _apply_multilabel_losses(losses, teacher_inference.spec())
    student, teacher = _match_multilabel(student, teacher)
    if isinstance(model_teacher, Ensemble) and teacher.output_kind == logits.BINARY:
        has_softmax = logits.SOFTMAX in teacher.member_kinds
        # Such a loss names itself beside a softmax, see `losses/requirements.py`.
        if not (has_softmax and any(loss.multilabel for loss in losses.values())):
            model_teacher.as_multilabel()
    return student, teacher, teacher_inference.values


class _Inference:
    """Finds out about one model's outputs; runs it where that is needed, once."""

    def __init__(
        self,
        teacher,
        role,
        sample,
        key,
        from_logits,
        loss,
        caller="Distiller",
        evaluate=False,
    ):
        self.caller, self.role = caller, role
        self.key, self.from_logits = key, from_logits
        self.teacher, self.sample, self.model = teacher, sample, teacher.model
        self.names = teacher.output_names
        self.loss = select_for_output(loss, key, _output_index(key, self.names))
        self.values: Any = None
        self._infer_members()
        self._symbolic_outputs()
        if evaluate and self.values is None:
            self.evaluate()

    def spec(self):
        return OutputSpec(
            role=self.role,
            shape=self.shape,
            shapes=self.shapes,
            output_kind=self._resolve_multilabel(self._output_kind()),
            names=self.names,
            is_multi_output=self.is_multi_output,
            member_kinds=tuple(getattr(self.teacher, "output_kinds", ())),
        )

    def _infer_members(self):
        """What each member of an ensemble gives may show in its values alone."""
        if not isinstance(self.teacher, Ensemble):
            return
        count = len(self.teacher.members)
        specs = [
            _Inference(
                member,
                f"{self.role}'s member {i} of {count}",
                self.sample,
                self.key,
                self.from_logits,
                None,
            ).spec()
            for i, member in enumerate(self.teacher.members, start=1)
        ]
        self.teacher.set_output_kinds(
            [spec.output_kind for spec in specs],
            any(spec.is_multi_output for spec in specs),
        )

    def _symbolic_outputs(self):
        if self.model is None:
            outputs = self.evaluate()
        else:
            x = model_inputs(self.sample.x)
            try:
                outputs = compute_output_spec(self.model, x)
            except Exception as error:
                raise ValueError(
                    f"`{self.caller}`: the {self.role} cannot take the inputs: "
                    f"{describe_shapes(x)}. Give inputs of the shape that it was made "
                    f"for, or a model for these. Keras says: {error}"
                ) from error
        self.is_multi_output = (
            isinstance(outputs, dict | list | tuple) and len(outputs) > 1
        )
        self.shapes = self._shapes(outputs)
        output = self._select(outputs)
        self.shape = tuple(output.shape)
        self._validate(output)

    def _shapes(self, outputs):
        if isinstance(outputs, dict):
            return {name: tuple(output.shape) for name, output in outputs.items()}
        if not isinstance(outputs, list | tuple):
            return {None: tuple(outputs.shape)}
        names = self.names if self.names and len(self.names) == len(outputs) else None
        names = names or range(len(outputs))
        return {n: tuple(o.shape) for n, o in zip(names, outputs, strict=True)}

    def _validate(self, output):
        dtype, shape = keras.backend.standardize_dtype(output.dtype), output.shape
        if len(shape) < 2 or not keras.backend.is_float_dtype(dtype):
            raise ValueError(
                f"`{self.caller}`: the {self.role}'s output is no logits: shape "
                f"{tuple(shape)}, dtype {dtype}. Needed is `(batch, ..., classes)` of "
                "floats. Choose another output with `output=`, or another model."
            )

    def _select(self, outputs):
        try:
            return logits.select_output(outputs, self.key, self.names)
        except KeyError as error:
            known = ", ".join(repr(name) for name in error.args[0])
        if self.key is None:
            raise ValueError(
                f"`{self.caller}`: the {self.role} has several outputs. Choose one "
                f"with `output=`. There are: {known}."
            )
        raise ValueError(
            f"`{self.caller}`: the {self.role} has no output {self.key!r}. `output=` "
            f"may be: {known}."
        )

    def evaluate(self):
        """Runs the model on the sample, once. Returns the last batch's outputs."""
        forward, values = compile_teacher(self.teacher), []
        for start in range(0, num_samples(self.sample.x), self.sample.batch_size):
            batch = slice(start, start + self.sample.batch_size)
            # Tensors, as in a step.
            x = keras.tree.map_structure(
                lambda a: keras.ops.convert_to_tensor(a[batch]),  # noqa: B023
                self.sample.x,
            )
            outputs = forward(x)
            output = self._select(outputs)
            # What a `Lambda` announces may not be what it gives.
            self._validate(output)
            output = keras.ops.cast(output, "float32")
            values.append(to_numpy(keras.ops.convert_to_numpy(output)))
        self.values = np.concatenate(values)
        return outputs

    def evaluated_values(self):
        if self.values is None:
            self.evaluate()
        return self.values

    def _look_like_probabilities(self):
        return logits.look_like_probabilities(self.evaluated_values())

    def _output_kind(self):
        if self.teacher.output_kind is not None:
            return self.teacher.output_kind
        kind = self._kind_from_layers()
        is_probability = kind in (logits.SOFTMAX, logits.SIGMOID)
        if self.from_logits == "auto":
            return kind or self._kind_from_values()
        if self.from_logits:
            if is_probability or (kind is None and self._look_like_probabilities()):
                raise ValueError(
                    f"`{self.caller}`: `from_logits=True`, but the {self.role} gives "
                    "probabilities: its last layer is a softmax or sigmoid, or its "
                    "outputs lie in [0, 1] and sum to 1. Use `from_logits='auto'`."
                )
            return logits.LOGITS
        if is_probability:
            return kind
        is_softmax = self._look_like_probabilities()
        if self.values.min() < 0 or self.values.max() > 1:
            raise ValueError(
                f"`{self.caller}`: `from_logits=False`, but the {self.role} gives "
                f"values from {self.values.min():.3g} to {self.values.max():.3g}, no "
                "probabilities. Use `from_logits='auto'`."
            )
        return logits.SOFTMAX if is_softmax else logits.SIGMOID

    def _kind_from_values(self):
        if self._look_like_probabilities():
            return logits.SOFTMAX
        if self.model is None or not self.values.size:
            # Numbers between 0 and 1 alone do not make a sigmoid.
            return logits.LOGITS
        is_inside = self.values.min() >= 0 and self.values.max() <= 1
        # Of a model whose layers do not tell, or whose user declares it.
        declared = declared_from_logits(self.loss)
        is_readable = getattr(self.model, "operations", None)
        may_be_sigmoid = declared is False or (declared is None and not is_readable)
        return logits.SIGMOID if is_inside and may_be_sigmoid else logits.LOGITS

    def _kind_from_layers(self):
        if self.model is None:
            return None
        if not self.is_multi_output:
            return logits.infer_output_kind(self.model)
        return output_kind_of(self.model, self.key, self.names)

    def _resolve_multilabel(self, kind):
        """One logit is a choice of two; several are, where the loss is binary."""
        if kind != logits.LOGITS:
            return kind
        is_binary = "binary" in canonical_loss_name(self.loss)
        return logits.BINARY if self.shape[-1] == 1 or is_binary else kind


def _output_index(key, names):
    if isinstance(key, int):
        return key
    return names.index(key) if names and key in names else 0


def _apply_multilabel_losses(losses, spec):
    """Logits as a choice for each label, where a loss asks for it."""
    is_multilabel = any(loss.multilabel for loss in losses.values())
    return _as_multilabel(spec) if is_multilabel else spec


def _match_multilabel(student, teacher):
    """Logits beside a sigmoid are a choice for each label too."""
    kinds = student.output_kind, teacher.output_kind
    if (kinds[0] in MULTILABEL_KINDS) == (kinds[1] in MULTILABEL_KINDS):
        return student, teacher
    return _as_multilabel(student), _as_multilabel(teacher)


def _as_multilabel(spec):
    if spec.output_kind != logits.LOGITS:
        return spec
    return dataclasses.replace(spec, output_kind=logits.BINARY)
