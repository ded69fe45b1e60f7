"""What kind of output each model gives, found out before the first step."""

import dataclasses
import inspect
from typing import Any

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
from keras_dtkd.core.output_kind import (
    compute_output_spec,
    is_binary_output,
    resolve_output_kind,
    symbolic_output,
)
from keras_dtkd.core.tokenizers import common_vocabulary_size
from keras_dtkd.losses.resolve import group_by_output, needs_output
from keras_dtkd.preparation.output_spec import OutputSpec, OutputSpecs, SpecPair
from keras_dtkd.teachers import Ensemble, ModelTeacher
from keras_dtkd.teachers.forward import run_on_sample
from keras_dtkd.teachers.inputs import read_sample
from keras_dtkd.validation.outputs import check_outputs


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
    is_optional = bool(losses) and not any(map(needs_output, losses.values()))
    args = distiller, sample, key, losses, with_teacher, is_optional
    pair, values = _infer_outputs(*args)
    if not is_optional or not with_teacher:
        return pair, values
    if all(spec.is_compared for spec in pair) and not check_outputs(key, *pair):
        return pair, values
    specs = (dataclasses.replace(spec, is_compared=False) for spec in pair)
    return SpecPair(*specs), None


def _infer_outputs(distiller, sample, key, losses, with_teacher, is_optional):
    from_logits = distiller.from_logits
    loss = compiled_loss(distiller) or compiled_loss(distiller.student)
    model = ModelTeacher(distiller.student)
    args = sample, key, from_logits
    inference = _Inference(model, "student", *args, loss, is_optional)
    has_multilabel_loss = any(loss.multilabel for loss in losses.values())
    student = inference.spec()
    is_regression = student.is_compared and _is_regression(inference, student)
    if is_regression:
        (student,) = _as_regression(student)
    elif has_multilabel_loss:
        (student,) = _as_multilabel(student)
    if not with_teacher:
        return SpecPair(student), None
    model_teacher = distiller.teacher_reference.teacher
    loss = compiled_loss(model_teacher.model)
    inference = _Inference(model_teacher, "teacher", *args, loss, is_optional)
    if not (student.is_compared and inference.is_compared):
        return SpecPair(student, inference.spec()), None
    values, teacher = inference.evaluate_once(), inference.spec()
    student, teacher = _cut_vocabularies(distiller, student, teacher)
    values = values[..., : teacher.num_classes]
    if is_regression:
        return SpecPair(student, *_as_regression(teacher)), values
    kinds = student.output_kind, teacher.output_kind
    # With a sigmoid on the other side, logits are a choice for each label too.
    if has_multilabel_loss or kinds[0].is_multilabel != kinds[1].is_multilabel:
        student, teacher = _as_multilabel(student, teacher)
    if (
        isinstance(model_teacher, Ensemble)
        and teacher.output_kind == OutputKind.BINARY_LOGITS
    ):
        has_softmax = OutputKind.SOFTMAX in teacher.member_kinds
        # With a softmax `losses/requirements.py` names such a loss.
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
    """Finds out about one model's outputs; runs it where that is needed, once.

    With `is_optional` an output that cannot be compared is none, and no error.
    """

    def __init__(
        self, teacher, role, sample, key, from_logits, loss, is_optional=False
    ):
        self.is_optional, self.is_compared = is_optional, True
        self.role, self.key, self.from_logits = role, key, from_logits
        self.teacher, self.sample, self.model = teacher, sample, teacher.model
        self.names = teacher.output_names
        where = logits.find_name_and_index(key, self.names)
        self.loss = select_for_output(loss, *where)
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
            output_kind=self._output_kind() if self.is_compared else OutputKind.LOGITS,
            names=self.names,
            is_multi_output=self.is_multi_output,
            training_keys=self.training_keys,
            member_kinds=tuple(self.teacher.output_kinds) if is_ensemble else (),
            is_compared=self.is_compared,
        )

    def _infer_members(self):
        """What each member of an ensemble gives may show in its values alone."""
        if not isinstance(self.teacher, Ensemble):
            return
        count = len(self.teacher.members)
        x, ids = read_sample(self.teacher, self.sample.x)
        x = x if ids is None else {"inputs": x, "sample_ids": ids}
        sample = self.sample._replace(x=x)
        common = sample, self.key, self.from_logits, None
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
        x, _ = read_sample(self.teacher, self.sample.x)
        try:
            return compute_output_spec(self.model, x, **kwargs)
        except Exception as error:
            is_student = self.role == "student"
            hint = "" if is_student else ", or the teacher its own by `teacher_inputs`"
            expected = list(getattr(self.model, "inputs", None) or [])
            if len(expected) == 1:
                hint += f". It is made for {describe_shapes(expected[0])}"
            raise ValueError(
                f"`Distiller`: the {self.role} cannot take the inputs: "
                f"{describe_shapes(x)}. Give inputs of the shape that it was made "
                f"for, or a model for these{hint}. Keras raised: "
                f"{describe_error(error)}"
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
        is_valid = len(shape) > 1 and keras.backend.is_float_dtype(dtype)
        if self.is_optional:
            self.is_compared = self.is_compared and is_valid
        elif not is_valid:
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
        if self.is_optional:
            self.is_compared = False
            return keras.tree.flatten(outputs)[0]
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
            values.append(keras.ops.convert_to_numpy(output))
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
