"""What kind of output each model gives, found out before the first step."""

import dataclasses
import inspect
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_dtkd.core import logits
from keras_dtkd.core.arrays import describe_shapes, flatten_deep, to_numpy
from keras_dtkd.core.compiled_loss import (
    REGRESSION_LOSSES,
    canonical_loss_name,
    compiled_loss,
    select_for_output,
)
from keras_dtkd.core.issue import describe_error
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.core.masking import MaskPreserving
from keras_dtkd.core.output_kind import (
    compute_output_spec,
    is_binary_output,
    resolve_output_kind,
    symbolic_output,
)
from keras_dtkd.core.tokenizers import common_vocabulary_size
from keras_dtkd.losses.resolve import group_by_output
from keras_dtkd.teachers import Ensemble, ModelTeacher
from keras_dtkd.teachers.forward import run_on_sample
from keras_dtkd.teachers.sample_ids import model_inputs

_to_logits = MaskPreserving(logits.to_logits)


@dataclasses.dataclass(frozen=True)
class OutputSpec:
    """The output of one model that is distilled.

    Attributes:
        role: `"teacher"` or `"student"`, for messages.
        key: Name or index of the output; `None` where there is only one.
        shape: Of the output for the sample, `(batch, ..., classes)`.
        shapes: Of all outputs, by name; `None` names the only one. A student's are
            those of inference.
        output_kind: An `OutputKind`.
        names: The model's `output_names`, or `None`.
        is_multi_output: Whether the model has several outputs.
        member_kinds: Of an ensemble, the kinds of its members.
        training_keys: Keys of all outputs in training.
        num_classes: Of the classes so many are compared, `None` for all: language
            models may have outputs for more tokens than their tokenizer has.
    """

    role: str
    key: Any
    shape: tuple
    shapes: Any
    output_kind: OutputKind
    names: Any = None
    is_multi_output: bool = False
    member_kinds: tuple = ()
    training_keys: tuple = ()
    num_classes: int | None = None

    def select(self, values):
        """This output's part of a model's outputs, labels or weights, or `KeyError`."""
        return logits.select_output(values, self.key, self.names)

    def select_logits(self, outputs):
        """The logits of this output, with its mask, from what the model returned."""
        outputs = self.select(outputs)
        kwargs = {"output_kind": self.output_kind, "num_classes": self.num_classes}
        return _to_logits(outputs, **kwargs)

    def to_dict(self):
        """A form for JSON."""
        return {**dataclasses.asdict(self), "shapes": list(self.shapes.items())}

    @classmethod
    def from_dict(cls, config):
        """From what `to_dict` gave, with lists for tuples where it was JSON."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in config.items()
        }
        values["shapes"] = {name: tuple(shape) for name, shape in config["shapes"]}
        values["output_kind"] = OutputKind(config["output_kind"])
        return cls(**values)


class SpecPair(NamedTuple):
    """The `OutputSpec`s of one distilled output; `None` where one is not known."""

    student: Any = None
    teacher: Any = None


class OutputSpecs:
    """The `SpecPair`s of all distilled outputs. Not a dict, which Keras would track.

    `pairs` has them by the outputs' keys, the Distiller's main output first. `labelled`
    are the keys of the student's training outputs that the labels belong to, where
    there are more of them than in inference; else `None`.
    """

    def __init__(self, pairs=None, labelled=None):
        self.pairs = pairs or {}
        self.labelled = labelled

    def get(self, key=None):
        """The pair of one output; of the main one by default."""
        if key is None:
            return next(iter(self.pairs.values()), SpecPair())
        return self.pairs[key]

    @property
    def is_regression(self):
        """Whether the main output is that of a regression."""
        student = self.get().student
        return student is not None and student.output_kind == OutputKind.REGRESSION

    def with_teachers_of(self, others):
        """A copy that knows the teacher's outputs where `others` alone know them."""
        pairs = {
            key: SpecPair(student, teacher or others.pairs.get(key, SpecPair()).teacher)
            for key, (student, teacher) in self.pairs.items()
        }
        return OutputSpecs(pairs, self.labelled)

    def without_teachers(self):
        """A copy that does not know the teacher's outputs."""
        pairs = {key: SpecPair(student) for key, (student, _) in self.pairs.items()}
        return OutputSpecs(pairs, self.labelled)

    def select_labelled(self, outputs):
        """The student's outputs that the labels belong to."""
        is_nested = isinstance(outputs, dict | list | tuple)
        if self.labelled is None or not is_nested:
            return outputs
        if len(outputs) <= len(self.labelled):
            # Those of inference.
            return outputs
        if None in self.get().student.shapes:
            return outputs[self.labelled[0]]
        if isinstance(outputs, dict):
            return {key: outputs[key] for key in self.labelled}
        return [outputs[key] for key in self.labelled]


def infer_output_specs(distiller, sample, with_teacher=True):
    """The distilled outputs of both models. `validation.outputs` checks that they fit.

    Returns `(specs, teacher_values)`: `OutputSpecs`, and the teacher's main outputs for
    the `Sample` as float32 NumPy, or `None`. Raises `ValueError` where one gives no
    logits.
    """
    groups = group_by_output(distiller.distillation_losses, distiller.distilled_output)
    results = {
        key: _infer_pair(distiller, sample, key, losses, with_teacher)
        for key, losses in groups.items()
    }
    pairs = {key: pair for key, (pair, _) in results.items()}
    main, teacher_values = next(iter(results.values()))
    return OutputSpecs(pairs, _find_labelled(main.student, groups)), teacher_values


def _find_labelled(student, distilled):
    """Keys of the training outputs that labels belong to, see `OutputSpecs`.

    A list begins with the outputs of inference. A dict has no order under JAX: there
    they are those of the same names, or the one that is not distilled.
    """
    keys, count = student.training_keys, len(student.shapes)
    if len(keys) <= count:
        return None
    if isinstance(keys[0], int):
        return list(keys[:count])
    candidates = [key for key in keys if key in student.shapes]
    candidates = candidates or [key for key in keys if key not in distilled]
    if len(candidates) != count:
        raise ValueError(
            "`Distiller`: the student has more outputs in training "
            f"({', '.join(map(repr, keys))}) than in inference, and labels could "
            "belong to several. Return a list that begins with the outputs of "
            "inference, or override the student's `compute_loss` and `compute_metrics`."
        )
    return candidates


def _infer_pair(distiller, sample, key, losses, with_teacher):
    from_logits = distiller.from_logits
    loss = compiled_loss(distiller) or compiled_loss(distiller.student)
    inference = _Inference(
        ModelTeacher(distiller.student), "student", sample, key, from_logits, loss
    )
    has_multilabel_loss = any(loss.multilabel for loss in losses.values())
    student = inference.spec()
    is_regression = _is_regression(inference, student)
    if is_regression:
        (student,) = _as_regression(student)
    elif has_multilabel_loss:
        (student,) = _as_multilabel(student)
    if not with_teacher:
        return SpecPair(student), None
    model_teacher = distiller.teacher_reference.teacher
    loss = compiled_loss(model_teacher.model)
    inference = _Inference(model_teacher, "teacher", sample, key, from_logits, loss)
    values, teacher = inference.evaluate_once(), inference.spec()
    student, teacher = _cut_vocabularies(distiller, student, teacher)
    values = values[..., : teacher.num_classes]
    if is_regression:
        return SpecPair(student, *_as_regression(teacher)), values
    kinds = student.output_kind, teacher.output_kind
    # Logits beside a sigmoid are a choice for each label too.
    if has_multilabel_loss or kinds[0].is_multilabel != kinds[1].is_multilabel:
        student, teacher = _as_multilabel(student, teacher)
    if (
        isinstance(model_teacher, Ensemble)
        and teacher.output_kind == OutputKind.BINARY_LOGITS
    ):
        has_softmax = OutputKind.SOFTMAX in teacher.member_kinds
        # Such a loss names itself beside a softmax, see `losses/requirements.py`.
        if not (has_softmax and has_multilabel_loss):
            model_teacher.as_multilabel()
    return SpecPair(student, teacher), values


def _cut_vocabularies(distiller, *specs):
    """The specs, cut to the tokens of the models' common tokenizer where they differ.

    Never are logits made up for the tokens that one model lacks.
    """
    if len({spec.shape[-1] for spec in specs}) == 1:
        return specs
    teacher = distiller.teacher_reference.teacher.model
    size = common_vocabulary_size(distiller.student, teacher)
    if size is None or any(size > spec.shape[-1] for spec in specs):
        return specs
    return [
        dataclasses.replace(spec, shape=(*spec.shape[:-1], size), num_classes=size)
        for spec in specs
    ]


def _is_regression(inference, student):
    """Whether a linear output was compiled with a loss on numbers, as `"mse"`.

    Beside one-hot labels it is a choice among classes all the same.
    """
    linear = OutputKind.LOGITS, OutputKind.BINARY_LOGITS
    loss = canonical_loss_name(inference.loss)
    if student.output_kind not in linear or loss not in REGRESSION_LOSSES:
        return False
    if inference.from_logits is True or inference.sample.y is None:
        return inference.from_logits is not True
    try:
        labels = student.select(inference.sample.y)
    except KeyError:
        return True
    has_shape = to_numpy(labels).shape[1:] == student.shape[1:]
    return not (has_shape and logits.look_like_probabilities(to_numpy(labels)))


def _as_regression(*specs):
    """The specs, with numbers in place of logits."""
    return [
        dataclasses.replace(spec, output_kind=spec.output_kind.as_regression)
        for spec in specs
    ]


def _as_multilabel(*specs):
    """The specs, with logits as a choice for each label."""
    return [
        dataclasses.replace(spec, output_kind=spec.output_kind.as_multilabel)
        for spec in specs
    ]


class _Inference:
    """Finds out about one model's outputs; runs it where that is needed, once."""

    def __init__(self, teacher, role, sample, key, from_logits, loss):
        self.role, self.key, self.from_logits = role, key, from_logits
        self.teacher, self.sample, self.model = teacher, sample, teacher.model
        self.names = teacher.output_names
        name, index = _name_and_index(key, self.names)
        self.loss = select_for_output(loss, name, index)
        self.values: Any = None
        self._infer_members()
        self._infer_shapes()

    def spec(self):
        is_ensemble = isinstance(self.teacher, Ensemble)
        return OutputSpec(
            role=self.role,
            key=self.key,
            shape=self.shape,
            shapes=self.shapes,
            output_kind=self._output_kind(),
            names=self.names,
            is_multi_output=self.is_multi_output,
            training_keys=self.training_keys,
            member_kinds=tuple(self.teacher.output_kinds) if is_ensemble else (),
        )

    def _infer_members(self):
        """What each member of an ensemble gives may show in its values alone."""
        if not isinstance(self.teacher, Ensemble):
            return
        count = len(self.teacher.members)
        common = self.sample, self.key, self.from_logits, None
        specs = [
            _Inference(member, f"{self.role}'s member {i} of {count}", *common).spec()
            for i, member in enumerate(self.teacher.members, start=1)
        ]
        self.teacher.set_output_kinds(
            [spec.output_kind for spec in specs],
            any(spec.is_multi_output for spec in specs),
        )

    def _infer_shapes(self):
        if self.model is None:
            outputs = training_outputs = self._evaluate()
        else:
            outputs = self._symbolic_outputs()
            training_outputs = outputs
            if self.role == "student" and _may_depend_on_training(self.model):
                training_outputs = self._symbolic_outputs(training=True)
        outputs, training_outputs = map(flatten_deep, (outputs, training_outputs))
        self.shapes = self._shapes(outputs)
        is_nested = isinstance(training_outputs, dict | list | tuple)
        self.is_multi_output = is_nested and len(training_outputs) > 1
        if isinstance(training_outputs, dict):
            self.training_keys = tuple(sorted(training_outputs))
        else:
            count = len(training_outputs) if self.is_multi_output else 1
            self.training_keys = tuple(range(count))
        output = self._select(training_outputs)
        self.shape = tuple(output.shape)
        self._validate(output)

    def _symbolic_outputs(self, **kwargs):
        x = model_inputs(self.sample.x)
        try:
            return compute_output_spec(self.model, x, **kwargs)
        except Exception as error:
            raise ValueError(
                f"`Distiller`: the {self.role} cannot take the inputs: "
                f"{describe_shapes(x)}. Give inputs of the shape that it was made "
                f"for, or a model for these. Keras says: {describe_error(error)}"
            ) from error

    def _shapes(self, outputs):
        if isinstance(outputs, dict):
            return {name: tuple(output.shape) for name, output in outputs.items()}
        if not isinstance(outputs, list | tuple):
            return {None: tuple(outputs.shape)}
        keys = logits.output_keys(outputs, self.names)
        return {k: tuple(o.shape) for k, o in zip(keys, outputs, strict=True)}

    def _validate(self, output):
        dtype, shape = keras.backend.standardize_dtype(output.dtype), output.shape
        if len(shape) < 2 or not keras.backend.is_float_dtype(dtype):
            raise ValueError(
                f"`Distiller`: the {self.role}'s output is no logits: shape "
                f"{tuple(shape)}, dtype {dtype}. Needed is `(batch, ..., classes)` of "
                "floats. Choose another output with `output=`, or another model. (A "
                "data set must give batches: `dataset.batch(32)`.)"
            )

    def _select(self, outputs):
        try:
            return logits.select_output(outputs, self.key, self.names)
        except KeyError as error:
            known = ", ".join(repr(name) for name in error.args[0])
        if self.key is None:
            raise ValueError(
                f"`Distiller`: the {self.role} has several outputs. Choose one "
                f"with `output=`. There are: {known}."
            )
        raise ValueError(
            f"`Distiller`: the {self.role} has no output {self.key!r}. `output=` "
            f"may be: {known}."
        )

    def evaluate_once(self):
        """The model's distilled outputs for the whole sample, float32 NumPy."""
        if self.values is None:
            self._evaluate()
        return self.values

    def _evaluate(self):
        """Runs the model on the sample. Returns the last batch's outputs."""
        values = []
        for outputs in run_on_sample(self.teacher, self.sample):
            output = self._select(outputs)
            # What a `Lambda` announces may not be what it gives.
            self._validate(output)
            output = keras.ops.cast(output, "float32")
            values.append(to_numpy(keras.ops.convert_to_numpy(output)))
        self.values = np.concatenate(values)
        return outputs

    def _output_kind(self):
        if self.teacher.output_kind is None:
            return resolve_output_kind(
                "Distiller",
                self.role,
                self.model,
                symbolic_output(self.model, self.key, self.names),
                self.from_logits,
                self.loss,
                self.shape[-1],
                self.evaluate_once,
            )
        kind = OutputKind(self.teacher.output_kind)
        is_binary = is_binary_output(self.shape[-1], self.loss)
        return kind.as_multilabel if is_binary else kind


def _may_depend_on_training(model):
    """Whether a model's outputs in training may differ from those in inference."""
    is_graph = isinstance(model, keras.Sequential) or hasattr(model, "operations")
    return not is_graph and "training" in inspect.signature(model.call).parameters


def _name_and_index(key, names):
    """An output's name and its place in lists, as far as they are known."""
    names = list(names or ())
    if isinstance(key, int):
        is_known = -len(names) <= key < len(names)
        return names[key] if is_known else key, key
    if key is None:
        return None, 0
    return key, names.index(key) if key in names else None
