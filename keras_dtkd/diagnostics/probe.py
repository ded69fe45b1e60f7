"""A Distiller that is checked and evaluated on a few batches, but never trained."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_dtkd import backend
from keras_dtkd.core import arrays
from keras_dtkd.core.arguments import check_positive_int
from keras_dtkd.core.issue import ERROR, has_errors, report_issues
from keras_dtkd.core.masking import get_mask, row_weights
from keras_dtkd.functional.labels import one_hot
from keras_dtkd.preparation import data_peek, measure, prepare
from keras_dtkd.preparation.build_steps import build_steps
from keras_dtkd.teachers.forward import compile_teacher
from keras_dtkd.training.loss_aggregation import compute_loss_means
from keras_dtkd.training.run import strategy_of
from keras_dtkd.validation.checks import find_issues
from keras_dtkd.validation.data import check_arrays, check_weight_lengths
from keras_dtkd.validation.labels import check_labels

# Four batches of this size give an accuracy of one half to within 3%.
BATCH_SIZE = 64
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


def sample_batches(data, num_batches, teacher=None):
    """A `data_peek.Sample` of each of the first batches, in a list.

    Of arrays, samples spread over all of them, with the ids that the teacher may need.
    """
    num_batches = check_positive_int("diagnose", "batches", num_batches)
    samples = [s for s, _ in iter_samples("diagnose", data, num_batches, teacher)]
    if not samples:
        raise ValueError("`diagnose`: `data` holds no batch. Give some samples.")
    return samples


def iter_samples(caller, data, num_batches=None, teacher=None):
    """Yields pairs: a `data_peek.Sample` of a batch, and the indices of its samples.

    All batches if `num_batches` is `None`; else of arrays, samples spread over all of
    them. Indices are rows of arrays; of other data the samples are counted from 0.
    """
    if isinstance(data, tuple) and data and teacher is not None:
        data = (data_peek.add_sample_ids(teacher, data[0], False), *data[1:])
    if arrays.is_arrays(data):
        batches = _split_arrays(data, num_batches)
    else:
        batches = _number_samples(_iter_batches(caller, data, num_batches))
    for batch, indices in itertools.islice(batches, num_batches):
        yield data_peek.peek(iter([batch]))[0], indices


def _iter_batches(caller, data, num_batches):
    is_endless = num_batches is None and count_batches(data) == np.inf
    if is_endless:
        raise ValueError(
            f"`{caller}`: `data` has no end. Give the number of batches: `batches=100`."
        )
    if not isinstance(data, keras.utils.PyDataset):
        return iter(data)
    # Its own iterator, if any, does not end.
    count = num_batches if data.num_batches is None else data.num_batches
    return map(data.__getitem__, range(count))


def count_batches(data, num_batches=None):
    """How many batches `iter_samples` yields; `None` if unknown, infinity for no end.

    `num_batches` is its argument.
    """
    if arrays.is_arrays(data):
        first = data[0] if isinstance(data, tuple) else data
        total = -(-arrays.num_samples(first) // BATCH_SIZE)
    elif isinstance(data, keras.utils.PyDataset):
        total = np.inf if data.num_batches is None else data.num_batches
    elif hasattr(data, "cardinality"):
        # A `tf.data.Dataset`: -1 is infinite, -2 unknown.
        cardinality = int(data.cardinality())
        total = {-1: np.inf, -2: None}.get(cardinality, cardinality)
    else:
        try:
            total = len(data)
        except TypeError:
            total = None
    return min((n for n in (num_batches, total) if n is not None), default=None)


def _number_samples(batches):
    count = 0
    for batch in batches:
        x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        indices = count + np.arange(arrays.num_samples(x))
        count += len(indices)
        yield batch, indices


def _split_arrays(data, num_batches):
    x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
    report_issues(check_arrays(x, y))
    report_issues(check_weight_lengths(x, weights))
    parts = (x,) if y is None else (x, y)
    parts = parts if weights is None else (x, y, weights)
    for indices in _choose_rows(arrays.num_samples(x), num_batches):
        yield arrays.take_rows(parts, indices), indices


def _choose_rows(length, num_batches):
    """The rows of each batch: all in order, or some that are spread over all."""
    if num_batches is None:
        starts = range(0, length, BATCH_SIZE)
        return [np.arange(i, min(i + BATCH_SIZE, length)) for i in starts]
    count = min(length, num_batches * BATCH_SIZE)
    indices = np.linspace(0, length - 1, count).astype(int)
    # Strided, since data may be sorted by class. Batches of one size, since each new
    # shape would be compiled again.
    num_batches = -(-count // BATCH_SIZE)
    stop = count - count % num_batches
    return [indices[i:stop:num_batches] for i in range(num_batches)]


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
    values = arrays.to_numpy(ops.convert_to_numpy(values))
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
