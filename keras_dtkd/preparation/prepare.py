"""What `fit` does before Keras's own.

Peek at the data → infer output specs → build → validate → compile → validate.
"""

import dataclasses
import warnings
from typing import Any

import keras

from keras_dtkd import backend
from keras_dtkd.core import arrays
from keras_dtkd.core.compiled_loss import compiled_loss
from keras_dtkd.core.hooks import parts_with_hooks
from keras_dtkd.core.issue import ERROR, WARNING, Issue, has_errors, report_issues
from keras_dtkd.distribution.rank_callbacks import validate_divisible_batches
from keras_dtkd.losses import LogitMSE
from keras_dtkd.preparation import changes, data_peek, measure, text
from keras_dtkd.preparation.build_losses import build_losses, build_task_loss
from keras_dtkd.preparation.default_compile import (
    default_compile,
    exclude_from_weight_decay,
)
from keras_dtkd.preparation.holdout import TrainingData, cut_holdout
from keras_dtkd.preparation.output_inference import infer_output_specs
from keras_dtkd.training import rollout_step, task_loss
from keras_dtkd.training.forward import build_steps
from keras_dtkd.training.loss_aggregation import compute_loss_means
from keras_dtkd.training.run import strategy_of
from keras_dtkd.validation.arguments import (
    reject_feedback_data,
    reject_migrated_arguments,
    require_teacher,
    validate_batch_size,
)
from keras_dtkd.validation.checks import find_issues
from keras_dtkd.validation.context import CompiledSettings, ValidationContext
from keras_dtkd.validation.detectors import check_detectors
from keras_dtkd.validation.labels import check_labels, find_class_ranges
from keras_dtkd.validation.models import check_teacher_at_chance
from keras_dtkd.validation.outputs import (
    check_finite_outputs,
    check_float16_probabilities,
    check_regression_teacher,
)
from keras_dtkd.validation.prompts import check_prompts

TRAINING = "fit", "train_on_batch"


class Cache:
    """For what a Distiller was prepared."""

    def __init__(self):
        # What the compiled functions hold, and what the optimizer was built for.
        self.snapshot: Any = None
        self.trained_variables: Any = None
        self.losses: Any = None
        self.clear()

    def clear(self):
        """Forgets the data: another teacher, loss, or other feedback data."""
        # By structure of the inputs, the `SpecPair`s of all outputs.
        self.specs: dict = {}
        # Of the batches that `train_on_batch` and `test_on_batch` were given.
        self.batches: set = set()
        # `find_class_ranges` by `"train"` and `"eval"`, of labels not checked yet.
        self.class_ranges: dict = {}


def prepare(distiller, run, x, y, batch_size=None, **options):
    """Validates models and data, and compiles what was not compiled.

    `run` is that of `ValidationContext`; all else is as the run was given it.

    Returns:
        `x` to be used from here on: the first batch of an iterator is put back.

    Raises:
        ValueError: Whatever is wrong with models or data.
    """
    is_unchanged = changes.follow_changes(distiller)
    context = peek(distiller, run, x, y, batch_size, **options)
    context = inspect_models(distiller, context)
    reported = report_issues(find_issues(context))
    context = compile_distiller(distiller, context)
    report_issues(find_issues(context), reported)
    build_task_loss(distiller, context.sample)
    exclude_from_weight_decay(distiller)
    distiller.preparation_cache.specs[_structure(context)] = context.specs
    _note_labels(distiller, context)
    if context.is_training:
        distiller.validate_before_training(context)
    _note_class_ranges(distiller, context)
    changes.note_state(distiller, is_unchanged)
    return context.x


def prepare_fit(distiller, x, y, batch_size, kwargs):
    """Prepares a `fit`, whose other arguments are `kwargs`.

    Returns:
        `(x, y, callbacks)`: the data to train on, without what is held out of it, and
        the callbacks that losses, temperatures, views and teachers need.
    """
    reject_feedback_data(kwargs)
    reject_migrated_arguments("Distiller.fit", kwargs)
    validate_batch_size(batch_size)
    require_teacher(distiller)
    x, y = text.preprocess(distiller, x, y, kwargs, rolls_out=True)
    validate_divisible_batches(x, batch_size, kwargs)
    x = prepare(distiller, "fit", x, y, batch_size, **kwargs)
    if y is None and kwargs.get("sample_weight") is not None:
        y = arrays.placeholder_labels(x)
    teacher = distiller.teacher_reference.teacher
    losses, views = distiller.distillation_losses, distiller.views
    parts = parts_with_hooks(losses, views, teacher, distiller.rollout)
    data, held_out = TrainingData(x, y, batch_size), None
    shares = [part.hold_out(data) for part in parts]
    shares = [share for share in shares if share is not None]
    if shares:
        x, y, held_out = cut_holdout(data, max(shares), kwargs)
    distiller.run_context = dataclasses.replace(
        distiller.run_context, held_out=held_out
    )
    callbacks = [c for part in parts for c in part.training_callbacks(distiller)]
    return x, y, callbacks


def prepare_evaluate(distiller, x, y, kwargs):
    """Prepares an `evaluate`, whose other arguments are `kwargs`. Returns `(x, y)`."""
    if x is None:  # Keras names what is missing.
        return x, y
    x, y = text.preprocess(distiller, x, y, kwargs)
    weights = kwargs.get("sample_weight")
    return prepare(distiller, "evaluate", x, y, sample_weight=weights), y


def prepare_batch(distiller, run, x, y, kwargs):
    """Prepares `train_on_batch` or `test_on_batch`, once for a batch's structure.

    `kwargs` are its other arguments. Returns `(x, y)`.
    """
    x, y = text.preprocess(distiller, x, y, kwargs, run == "train_on_batch")
    if changes.has_changed(distiller):
        changes.follow_changes(distiller)
    signature = run, distiller.evaluate_distillation, arrays.batch_signature(x, y)
    if signature not in distiller.preparation_cache.batches:
        weights = kwargs.get("sample_weight")
        prepare(distiller, run, x, y, sample_weight=weights)
        distiller.preparation_cache.batches.add(signature)
    name, has_labels = "eval_has_labels", y is not None
    if run == "train_on_batch":
        name, rollout = "train_has_labels", distiller.rollout
        has_labels = has_labels if rollout is None else rollout.has_labels
    distiller.run_context = dataclasses.replace(
        distiller.run_context, **{name: has_labels}
    )
    return x, y


def prepare_predict(distiller, x):
    """What `predict` runs on."""
    changes.follow_changes(distiller)
    if task_loss.overrides(distiller.student, "predict_step"):
        # Its own `predict` runs, preprocessor included.
        return x
    return text.preprocess(distiller, x)[0]


def compute_losses(distiller, x, y):
    """See `Distiller.compute_losses`."""
    if distiller.chunk_size is not None:
        raise ValueError(
            "`Distiller.compute_losses` needs all logits, and `chunk_size` is set. Use "
            "`evaluate` with `evaluate_distillation=True`."
        )
    if distiller.output_specs.get().teacher is None:
        prepare_models(distiller, x, y)
    steps = build_steps(distiller, x, y)
    means = compute_loss_means(distiller.distillation_losses, steps)
    return {name: mean for name, mean, _ in means}


def prepare_models(distiller, x, y):
    """Infers output specs and builds weights, for losses outside of a run."""
    context = inspect_models(distiller, peek(distiller, "compute_losses", x, y))
    context = measure.find_mask(context)
    chance = check_teacher_at_chance(*context.chance_arguments)
    report_issues([*find_issues(context), *chance])


def peek(distiller, run, x, y=None, batch_size=None, **options):
    """The `ValidationContext` of a run, before any model has run."""
    teacher = None
    if distiller.evaluate_distillation or run not in ("evaluate", "test_on_batch"):
        require_teacher(distiller)
        teacher = distiller.teacher_reference.teacher
        if run not in TRAINING or distiller.rollout is None:
            x = data_peek.add_sample_ids(teacher, x, run.endswith("on_batch"))
    weights = options.get("sample_weight")
    sample, x = data_peek.peek(x, y, batch_size, weights)
    rollout = distiller.rollout if run in TRAINING else None
    if rollout is not None:
        rollout_step.find_max_length(distiller, sample.x)
        changes.follow_losses(distiller)
        report_issues(check_prompts(rollout, teacher, sample, x))
        sample = rollout_step.stand_in(distiller, sample)
    sample = data_peek.limit_rows(sample, distiller.student)
    return ValidationContext(
        rollout=rollout,
        chunk_size=distiller.chunk_size if teacher is not None else None,
        run=run,
        student=distiller.student,
        teacher=teacher,
        losses=distiller.distillation_losses,
        views=distiller.views,
        output=distiller.distilled_output,
        evaluate_distillation=distiller.evaluate_distillation,
        has_own_loss=task_loss.is_own(distiller.student),
        sample=sample,
        x=x,
        y=y,
        sample_weight=weights,
        class_weight=options.get("class_weight"),
        batch_size=batch_size,
        validation=data_peek.peek_validation_data(options.get("validation_data")),
        validation_split=options.get("validation_split"),
    )


def _note_class_ranges(distiller, context):
    """Notes what labels may be where not all of them were checked."""
    ranges, validation = list(find_class_ranges(context)), context.validation
    # Of arrays, all.
    is_checked = context.y is not None and not context.run.endswith("on_batch")
    unchecked = {"train" if context.is_training else "eval": not is_checked}
    if context.is_training:
        unchecked["eval"] = validation is None or validation.batch_size is not None
    distiller.preparation_cache.class_ranges |= {
        loop: ranges if is_unchecked else [] for loop, is_unchecked in unchecked.items()
    }


def _note_labels(distiller, context):
    """Notes which data has labels: their metrics are reported."""
    has_labels = context.sample.y is not None
    flags = {"eval_has_labels": has_labels}
    if context.is_training:
        validation = context.validation
        eval_has_labels = validation is None or validation.y is not None
        flags = {"train_has_labels": has_labels, "eval_has_labels": eval_has_labels}
    distiller.run_context = dataclasses.replace(distiller.run_context, **flags)


def inspect_models(distiller, context):
    """Infers output specs and builds weights, once for data of one structure.

    Returns the context with what was measured and what went wrong.
    """
    uses_teacher = context.teacher is not None
    if uses_teacher:
        context = context.with_issues(measure.find_invalid_weights(context.teacher))
        # A teacher that lacks sample ids cannot run.
        if has_errors(context.teacher.issues(context)):
            return context
    specs = distiller.preparation_cache.specs.get(_structure(context), {})
    known = dataclasses.replace(context, specs=specs)
    if specs and (not uses_teacher or known.teacher_spec is not None):
        return known.with_issues(measure.check_validation_data(known))
    issues = check_detectors(context)
    issues = issues or measure.build_models(context, strategy_of(distiller))
    distiller.built = distiller.student.built
    if uses_teacher and not issues:
        issues = measure.find_shared_state(context)
    if issues:
        return context.with_issues(issues)
    if context.chunk_size is not None:
        context = dataclasses.replace(context, heads=measure.find_heads(context))
    if context.rollout is not None:
        context = dataclasses.replace(context, caches=measure.find_caches(context))
    try:
        context = _infer_outputs(distiller, context)
        if uses_teacher and not has_errors(find_issues(context)):
            build_losses(distiller, context.sample)
    except ValueError as error:
        code = "invalid_output" if context.student_spec is None else "loss_not_built"
        return context.with_issues([Issue(code, ERROR, str(error), cause=error)])
    return context


def _loss_weights(distiller):
    """The `loss_weights` that a Distiller is compiled with."""
    # A function of the user's own in the configuration is nothing to warn of.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (distiller.get_compile_config() or {}).get("loss_weights")


def _structure(context):
    nan_inputs = arrays.describe_nan_inputs(context.inputs)
    return arrays.batch_signature(context.sample.x, None), nan_inputs


def _infer_outputs(distiller, context):
    """The context with output specs, and with what a run of the models shows."""
    specs, teacher_outputs = infer_output_specs(
        distiller, context.sample, context.teacher is not None
    )
    distiller.output_specs = specs.with_teachers_of(distiller.output_specs)
    context = dataclasses.replace(context, specs=specs.pairs)
    if context.is_regression and distiller.has_default_losses:
        context = _take_regression_loss(distiller, context)
    context = context.with_issues(measure.check_validation_data(context))
    if context.teacher is None:
        return context
    context = context.with_issues(_check_regression_teacher(distiller, context))
    nan_inputs = arrays.describe_nan_inputs(context.inputs)
    is_needed = nan_inputs and teacher_outputs is not None
    student_outputs = measure.run_student(context) if is_needed else None
    if teacher_outputs is not None:
        issues = check_finite_outputs(teacher_outputs, nan_inputs, student_outputs)
        issues += check_float16_probabilities(teacher_outputs, context.teacher_spec)
        context = dataclasses.replace(
            context.with_issues(issues), teacher_outputs=teacher_outputs
        )
    if has_errors(find_issues(context)):
        return context
    zero_gradients = measure.find_zero_gradients(context)
    return dataclasses.replace(context, zero_gradients=zero_gradients)


def _check_regression_teacher(distiller, context):
    has_loss = (
        distiller.compile_origin.source != "default" and compiled_loss(distiller)
    ) or compiled_loss(distiller.student)
    if has_loss or distiller.from_logits is True or task_loss.is_own(distiller.student):
        return []
    spec = context.student_spec
    labels = spec.get(context.sample.y, None)
    if keras.tree.is_nested(labels):
        return []
    labels = None if labels is None else arrays.to_numpy(labels)
    loss = compiled_loss(context.teacher.model)
    return check_regression_teacher(loss, spec, labels, context.losses)


def _take_regression_loss(distiller, context):
    """`LogitMSE` in place of the default loss, which compares classes."""
    distiller.distillation_losses = LogitMSE()
    changes.follow_losses(distiller)
    message = (
        "`Distiller`: the student was compiled for a regression. It is distilled as "
        "one: by `LogitMSE()`, the mean squared difference from the teacher's numbers."
    )
    hint = (
        "Give that loss yourself, and this is not said: `Distiller(..., LogitMSE())`."
    )
    issue = Issue("regression", WARNING, message, hint)
    losses = distiller.distillation_losses
    return dataclasses.replace(context, losses=losses).with_issues([issue])


def compile_distiller(distiller, context):
    """Compiles what was not compiled. Returns the context with what is compiled."""
    y = context.sample.y
    if y is None and context.validation is not None:
        y = context.validation.y
    with backend.building_scope(strategy_of(distiller)):
        try:
            default_compile(distiller, y)
            issues = changes.follow_optimizer(distiller)
        except ValueError as error:
            issue = Issue("not_compiled", ERROR, str(error), cause=error)
            return context.with_issues([issue])
        several = backend.replicas() > 1 or backend.rank_and_world_size()[1] > 1
    compiled = CompiledSettings(
        loss=distiller.loss,
        # Only chunks need them: all that was compiled is serialized for them.
        loss_weights=_loss_weights(distiller) if context.chunk_size else None,
        task_weight=distiller.task_weight,
        is_default=distiller.compile_origin.source == "default",
        metrics=distiller.compile_origin.metrics,
        optimizer=distiller.optimizer,
        jit_compile=distiller.jit_compile,
        steps_per_execution=distiller.steps_per_execution,
        is_distributed=several or keras.distribution.distribution() is not None,
    )
    context = dataclasses.replace(context, compiled=compiled).with_issues(issues)
    if not context.is_training or has_errors(check_labels(context)):
        return context
    context = measure.find_mask(context)
    recovered = measure.find_recovered_outputs(context)
    return dataclasses.replace(context, recovered_outputs=recovered)
