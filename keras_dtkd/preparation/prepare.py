"""What `fit` does before Keras's own.

Peek at the data → infer output specs → build → validate → compile → validate.
"""

import dataclasses
from typing import Any

import keras

from keras_dtkd import backend
from keras_dtkd.core import arrays
from keras_dtkd.core.hooks import FitHooks
from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.losses.resolve import group_by_output
from keras_dtkd.preparation import data_peek
from keras_dtkd.preparation.build_losses import (
    build_losses,
    build_own_loss,
    strategy_of,
)
from keras_dtkd.preparation.default_compile import (
    default_compile,
    exclude_from_weight_decay,
)
from keras_dtkd.preparation.holdout import TrainingData, cut_holdout
from keras_dtkd.preparation.output_spec import infer_output_specs
from keras_dtkd.teachers.sample_ids import model_inputs
from keras_dtkd.validation import (
    auxiliary_data,
    input_gradients,
    models,
    outputs,
    sample_ids,
    task_loss,
)
from keras_dtkd.validation import labels as label_checks


class Cache:
    """For which structures of data a Distiller was prepared.

    Attributes:
        models: Structures for which the models' outputs were inspected, each with
            whether the teacher ran.
        batches: Structures of the batches that `train_on_batch` was given.
    """

    def __init__(self):
        self.models: set = set()
        self.batches: set = set()

    def clear(self):
        """Forgets all: another teacher, or other feedback data."""
        self.models.clear()
        self.batches.clear()


def prepare_fit(distiller, x, y, batch_size, kwargs):
    """Prepares a `fit`.

    Args:
        distiller: The Distiller.
        x: As `fit` got it.
        y: As `fit` got it.
        batch_size: As `fit` got it.
        kwargs: Other arguments of `fit`. Data that losses hold out is cut from
            `sample_weight` and `validation_split` too.

    Returns:
        `(x, y, callbacks)`: the data to train on, and the callbacks that losses,
        temperatures, views and teachers need.
    """
    sample, x = prepare(distiller, x, y, kwargs, batch_size)
    if y is None and kwargs.get("sample_weight") is not None:
        y = arrays.placeholder_labels(x)
    parts = _parts(distiller)
    data, held_out = TrainingData(x, y, batch_size), None
    shares = [part.hold_out(data) for part in parts]
    shares = [share for share in shares if share is not None]
    if shares:
        x, y, held_out = cut_holdout(data, max(shares), kwargs)
    distiller.run_context = dataclasses.replace(
        distiller.run_context, held_out=held_out, sample=sample
    )
    callbacks = [c for part in parts for c in part.training_callbacks(distiller)]
    return x, y, callbacks


def _parts(distiller):
    """Everything that has hooks: losses and their temperatures, views, the teacher."""
    layers = iter_layers([distiller.distillation_losses, distiller.views])
    parts = [layer for layer in layers if isinstance(layer, FitHooks)]
    return [*parts, distiller.teacher_reference.teacher]


def prepare_evaluation(distiller, x, y, is_batch=False):
    """Prepares an evaluation.

    Returns:
        The data to evaluate on.
    """
    return prepare(distiller, x, y, {}, training=False, is_batch=is_batch)[1]


def prepare_batch(distiller, x, y):
    """Prepares `train_on_batch`, once for each structure of a batch."""
    signature = arrays.batch_signature(x, y)
    if signature not in distiller.preparation_cache.batches:
        prepare(distiller, x, y, {}, is_batch=True)
        distiller.preparation_cache.batches.add(signature)


def prepare_models(distiller, x, y):
    """Infers output specs and builds weights, for losses outside of a run."""
    sample = data_peek.peek(x, y)[0]
    teacher_values = inspect_models(distiller, sample)
    models.warn_teacher_at_chance(teacher_values, sample.y)


def prepare(
    distiller, x, y, kwargs, batch_size=None, training=True, is_batch=False
) -> tuple[data_peek.Sample, Any]:
    """Validates models and data, and compiles what was not compiled.

    Args:
        distiller: The Distiller.
        x: As `fit` got it.
        y: As `fit` got it.
        kwargs: Other arguments of `fit`: `validation_data` may have labels.
        batch_size: As `fit` got it.
        training: Whether a step will train.
        is_batch: Whether `x` is one batch, whose sample ids are not known.

    Returns:
        `(Sample, x)`: some samples, and `x` to be used from here on: the first batch
        of an iterator that was peeked at is put back.
    """
    uses_teacher = training or distiller.evaluate_distillation
    teacher = distiller.teacher_reference.teacher
    if uses_teacher:
        models.require_teacher(distiller)
        x = sample_ids.add_sample_ids(teacher, x, is_batch)
    sample, x = data_peek.peek(x, y, batch_size)
    validation_data = kwargs.get("validation_data")
    if validation_data is not None and distiller.evaluate_distillation:
        validation_x = data_peek.peek_inputs(validation_data)
        if validation_x is not None:
            sample_ids.validate_validation_ids(teacher, validation_x)
    validation = None
    if validation_data is not None:
        validation = data_peek.peek_labels(validation_data)
    if training and not distiller.evaluate_distillation:
        split = kwargs.get("validation_split")
        models.require_validation_labels(validation_data, validation, split, y)
    _note_labels(distiller, sample, validation_data, validation, training)
    if not training:
        models.require_eval_labels(distiller, sample)
    if uses_teacher:
        models.validate_finite_weights(teacher)
        models.validate_captured_layers(distiller)
        models.require_labels(distiller, sample)
    teacher_values = inspect_models(distiller, sample, uses_teacher)
    auxiliary_data.validate_validation_data(distiller, validation_data, sample)
    if training:
        models.require_trainable_weights(distiller.student)
    if uses_teacher:
        # What they share may not have had variables before, or have been frozen.
        models.validate_no_shared_weights(teacher, distiller.student)
    with backend.building_scope(strategy_of(distiller)):
        default_compile(distiller, validation if sample.y is None else sample.y)
    if training and input_gradients.needs_second_order(distiller):
        input_gradients.reject_jit_second_order("Distiller", distiller)
    exclude_from_weight_decay(distiller)
    build_own_loss(distiller, sample)
    if training:
        models.warn_unused_labels(distiller, sample)
    label_checks.validate_labels(distiller, sample.y if y is None else y)
    label_checks.validate_labels(distiller, validation, " of the validation data")
    models.warn_teacher_at_chance(teacher_values, sample.y)
    if training:
        task_loss.warn_from_logits_mismatch(distiller, sample)
        distiller.validate_before_training(sample)
    return sample, x


def _note_labels(distiller, sample, validation_data, validation, training):
    has_labels = sample.y is not None
    if not training:
        changes = {"eval_has_labels": has_labels}
    else:
        changes = {"train_has_labels": has_labels}
        is_known = not hasattr(validation_data, "__next__")
        if validation_data is not None and is_known:
            changes["eval_has_labels"] = validation is not None
        else:
            changes["eval_has_labels"] = True
    distiller.run_context = dataclasses.replace(distiller.run_context, **changes)


def inspect_models(distiller, sample, uses_teacher=True):
    """Infers output specs and builds weights, once for data of one structure.

    Returns:
        The teacher's outputs for the sample, NumPy, if it ran just now; else `None`.
    """
    structure = tuple((a.shape[1:], str(a.dtype)) for a in keras.tree.flatten(sample.x))
    key = structure, arrays.describe_nan_inputs(model_inputs(sample.x))
    cache = distiller.preparation_cache.models
    if (key, True) in cache or (key, uses_teacher) in cache:
        return None
    losses = distiller.distillation_losses
    models.build_models(distiller, sample)
    if uses_teacher:
        teacher = distiller.teacher_reference.teacher
        sample_ids.validate_sample_ids(teacher, losses, sample.x)
        input_gradients.validate_input_gradient_losses(distiller, sample)
    specs, values = infer_output_specs(distiller, sample, uses_teacher)
    distiller.output_specs = specs
    if uses_teacher:
        for view in distiller.views.values():
            view.check(model_inputs(sample.x))
        groups = group_by_output(losses, distiller.distilled_output)
        for output, pair in specs.pairs.items():
            input_gradients.require_one_output_per_sample(distiller, pair.student.shape)
            outputs.warn_uncentered_comparison(
                groups[output],
                pair.student.output_kind,
                pair.teacher.output_kind,
            )
        input_gradients.require_nonzero_input_gradient(distiller, sample)
        build_losses(distiller, sample)
    cache.add((key, uses_teacher))
    return values
