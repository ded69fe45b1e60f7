"""A Distiller that is checked and evaluated on a few batches, but never trained."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_dtkd import backend
from keras_dtkd.core import arrays
from keras_dtkd.core.issue import ERROR, has_errors
from keras_dtkd.core.masking import get_mask, row_weights
from keras_dtkd.functional.labels import one_hot
from keras_dtkd.preparation import measure, prepare
from keras_dtkd.teachers.forward import compile_teacher
from keras_dtkd.training.forward import build_steps
from keras_dtkd.training.loss_aggregation import compute_loss_means
from keras_dtkd.training.run import strategy_of
from keras_dtkd.validation.checks import find_issues
from keras_dtkd.validation.labels import check_labels

# Warnings of `fit` on its sample, which `diagnose` measures on all batches.
MEASURED_CODES = ("chance_teacher", "nan_inputs")


class ProbeBatch(NamedTuple):
    """One evaluated batch."""

    # By view and output: the `Step`, and the distilled one of its `student_outputs`.
    steps: dict
    output_kinds: dict  # By output: the student's, of `keras_dtkd.core.logits`.
    loss_values: dict  # The mean of each loss, by name, without its weight.
    task_loss: Callable | None  # From student outputs.
    is_unmasked: Any  # NumPy index of the positions that count.


class Evaluation(NamedTuple):
    """Both models and all losses; each unmasked position of a sequence is a sample."""

    batches: list
    logits: dict  # NumPy, `(samples, classes)`.
    labels: Any  # `(samples,)`, -1 for a missing label; `None` without labels.
    models: dict  # Lists of Keras models.
    output_kinds: dict  # Of `keras_dtkd.core.logits`.
    teacher_logits: Callable | None  # From a transformation of inputs; if not stored.


def run_validation(distiller, samples):
    """What `fit` would report: issues, and whether the Distiller can be evaluated."""
    issues = _find_issues(distiller, samples)
    from_logits = distiller.from_logits
    if from_logits == "auto" or not has_errors(issues):
        return issues, not has_errors(issues)
    # Where `from_logits` is wrong, everything else can be measured without it.
    distiller.from_logits = "auto"
    others = _find_issues(distiller, samples)
    code = "probabilities_as_logits" if from_logits else "logits_as_probabilities"
    caused = [dataclasses.replace(i, code=code) for i in issues if i not in others]
    return caused + others, not has_errors(others)


def _find_issues(distiller, samples):
    sample = samples[0]
    batch = sample.x, sample.y, sample.sample_weight
    context = prepare.peek(distiller, "diagnose", iter([batch]))
    # No assignment lasts. What is built is built outside of the scope.
    measure.build_models(context, strategy_of(distiller))
    with keras.StatelessScope():
        context = prepare.inspect_models(distiller, context)
    if context.student_spec is not None:
        context = prepare.compile_distiller(distiller, context)
    issues = find_issues(context)
    for sample in samples[1:]:
        issues += check_labels(dataclasses.replace(context, sample=sample))
    return [
        issue
        for issue in dict.fromkeys(issues)
        if issue.severity == ERROR or issue.code not in MEASURED_CODES
    ]


def evaluate_batches(distiller, samples):
    """Runs both models and all losses on the samples. See `Evaluation`."""
    batches = [_evaluate_batch(distiller, sample) for sample in samples]
    student, teacher = distiller.output_specs.get()
    models = distiller.teacher_reference.teacher.models
    student_logits, teacher_logits, labels = (
        np.concatenate(values) if values[0] is not None else None
        for values in zip(*map(_flatten_batch, batches), strict=True)
    )
    return Evaluation(
        batches,
        {"student": student_logits, "teacher": teacher_logits},
        labels,
        {"student": [distiller.student], "teacher": models},
        {"student": student.output_kind, "teacher": teacher.output_kind},
        _build_teacher_logits(distiller, samples, batches),
    )


def _evaluate_batch(distiller, sample):
    x, y, weights = arrays.to_tensors((sample.x, sample.y, sample.sample_weight))
    # In a StatelessScope no assignment lasts.
    with keras.StatelessScope(), backend.no_grad():
        build_step = build_steps(distiller, x, y, weights)
        losses = distiller.distillation_losses
        values = {n: v for n, v, _ in compute_loss_means(losses, build_step)}
        keys = {(loss.view, loss.distilled_output) for loss in losses.values()}
        steps = {key: build_step(*key)[:2] for key in {(None, None), *keys}}

    def compute_task_loss(student_outputs):
        return distiller.compute_task_loss(x, y, student_outputs, weights, False)

    has_task_loss = y is not None and distiller.compiled and distiller.has_task_loss
    step = steps[None, None][0]
    mask = get_mask(step.student_logits)
    counts = row_weights(step.student_logits, step.sample_weight, mask)
    mask = None if counts is None else ops.greater(counts, 0)
    return ProbeBatch(
        steps,
        {o: distiller.output_specs.get(o).student.output_kind for _, o in steps},
        {name: float(value) for name, value in values.items()},
        compute_task_loss if has_task_loss else None,
        slice(None) if mask is None else arrays.to_numpy(mask).reshape(-1),
    )


def _flatten_batch(batch):
    step, labels = batch.steps[None, None][0], None
    if step.y is not None and not keras.tree.is_nested(step.y):
        label = _flatten(one_hot(step.y, step.student_logits), batch)
        labels = np.where(label.max(-1) > 0, label.argmax(-1), -1)
    student, teacher = step.student_logits, step.teacher_logits
    return _flatten(student, batch), _flatten(teacher, batch), labels


def _flatten(values, batch):
    values = ops.convert_to_numpy(values)
    return values.reshape(-1, values.shape[-1])[batch.is_unmasked]


def _build_teacher_logits(distiller, samples, batches):
    if distiller.teacher_reference.teacher.needs_sample_ids:
        return None
    forward = compile_teacher(distiller.teacher_reference.teacher)
    spec = distiller.output_specs.get().teacher

    def compute(transform):
        logits = []
        for sample, batch in zip(samples, batches, strict=True):
            x = arrays.to_tensors(transform(sample.x))
            logits.append(_flatten(spec.select_logits(forward(x)), batch))
        return np.concatenate(logits)

    return compute
