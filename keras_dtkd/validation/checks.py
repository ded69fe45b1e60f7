"""All checks of one run."""

import dataclasses

from keras_dtkd.core import arrays
from keras_dtkd.core.hooks import parts_with_hooks
from keras_dtkd.core.issue import ERROR, has_errors
from keras_dtkd.validation import (
    chunks,
    data,
    detectors,
    labels,
    models,
    outputs,
    prompts,
    task_loss,
)

# Samples of the validation data that are looked at.
VALIDATION_SAMPLES = 32


def find_issues(context):
    """What is wrong with models, data and losses, as far as the context knows them.

    Called again when more is known, it returns again what it returned before.
    """
    issues: list = []
    if context.teacher is not None:
        given = context.teacher, context.rollout
        parts = parts_with_hooks(context.losses, context.views, *given)
        issues += [issue for part in parts for issue in part.issues(context)]
        if context.run == "fit" and context.evaluate_distillation:
            issues += _find_validation_issues(context, issues)
    if context.rollout is not None:
        issues += prompts.check_rollout_models(context.rollout, context)
    issues += chunks.check_chunks(context)
    issues += context.preparation_issues
    issues += labels.check_missing_labels(context)
    issues += detectors.check_detector_boxes(context)
    issues += data.check_padding(context)
    if context.is_training:
        issues += data.check_sample_weights(context)
        issues += models.check_trainable_weights(context.student)
        issues += models.check_adapters(context.student)
        if context.rollout is None:
            issues += labels.check_unused_labels(context)
    if context.teacher is not None:
        issues += models.check_shared_weights(context.teacher, context.student)
        if not context.has_own_tokens:
            issues += models.check_tokenizers(context.student, context.teacher)
        issues += models.check_image_preprocessors(context.student, context.teacher)
    for key, specs in context.specs.items():
        issues += outputs.check_outputs(key, *specs)
    if context.compiled is not None:
        # Wrong labels say nothing about the teacher.
        label_issues = labels.check_labels(context)
        issues += label_issues
        # Nor do those of a stand-in for a rollout.
        if not has_errors(label_issues) and context.rollout is None:
            check = models.check_teacher_at_chance
            if context.is_regression:
                check = models.check_regression_outputs
            issues += check(*context.chance_arguments)
        issues += models.check_optimizer(context)
        issues += models.check_optimizer_precision(context)
        issues += task_loss.check_from_logits(context)
        issues += task_loss.check_loss_names(context)
        if context.is_training:
            issues += task_loss.check_diluted_loss(context)
    return list(dict.fromkeys(issues))


def _find_validation_issues(context, known):
    """Errors of the validation data, on which losses and views are evaluated too."""
    data = context.validation
    if data is None or not arrays.is_arrays(data.x):
        return []
    parts = data.x, data.y, data.sample_weight
    x, y, weights = arrays.take_rows(parts, slice(VALIDATION_SAMPLES))
    evaluated = dataclasses.replace(
        context,
        run="evaluate",
        sample=data._replace(x=x, y=y, sample_weight=weights),
        x=data.x,
        y=data.y,
        sample_weight=data.sample_weight,
        validation=None,
        rollout=None,
    )
    parts = parts_with_hooks(context.losses, context.views, context.teacher)
    found = [issue for part in parts for issue in part.issues(evaluated)]
    source = "Validation data, for `evaluate_distillation=True`"
    return [
        dataclasses.replace(issue, message=f"{source}: {issue.message}")
        for issue in found
        if issue.severity == ERROR and issue not in known
    ]
