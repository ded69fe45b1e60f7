"""Prompts that a rollout cannot go on from."""

import numpy as np

from keras_dtkd.core import arrays
from keras_dtkd.core.issue import ERROR, WARNING, Issue
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.rollouts.decoders import has_cache, takes_mask
from keras_dtkd.rollouts.prompts import find_prompt_issues


def check_prompts(rollout, teacher, sample, x):
    """What is wrong with prompts: all arrays, or the first batch of other data."""
    name = f"`{type(rollout).__name__}`"
    data = x if arrays.is_arrays(x) else sample.x
    if teacher.needs_sample_ids:
        message = (
            f"{name}: the teacher's outputs are stored, and none is of new tokens."
        )
        hint = "Give the teacher itself, or train without a rollout."
        return [Issue("stored_teacher", ERROR, message, hint)]
    weights = sample.sample_weight
    if weights is not None and np.ndim(weights) > 1 and np.shape(weights)[1:] != (1,):
        message = f"{name}: weights of shape {np.shape(weights)} for prompts."
        hint = "Give one weight a prompt."
        return [Issue("invalid_weights", ERROR, message, hint)]
    return find_prompt_issues(rollout, data, sample.y is not None)


def check_rollout_models(rollout, context):
    """Models that a rollout cannot draw from, or only slowly."""
    name = f"`{type(rollout).__name__}`"
    models = {"student": context.student} if rollout.uses_student else {}
    if rollout.uses_teacher:
        if context.teacher.model is None:
            message = f"{name}: the teacher is no single model, and cannot draw tokens."
            hint = "Give the teacher as a `keras.Model`, or take `rollouts.Student`."
            return [Issue("no_teacher_model", ERROR, message, hint)]
        models["teacher"] = context.teacher.model
    if (
        len({takes_mask(model) for model in (context.student, *context.teacher.models)})
        > 1
    ):
        message = (
            f"{name}: one model takes `{{'token_ids', 'padding_mask'}}`, another one "
            "token ids alone."
        )
        hint = "Give both the same inputs: wrap one in a `keras.Model`."
        return [Issue("unlike_inputs", ERROR, message, hint)]
    for spec in (context.student_spec, context.teacher_spec):
        is_logits = spec is None or spec.output_kind == OutputKind.LOGITS
        if not is_logits or (spec is not None and spec.is_multi_output):
            found = (
                "several outputs" if spec.is_multi_output else spec.output_kind.value
            )
            message = f"{name}: the {spec.role} gives {found}, and no logits alone."
            hint = (
                "A rollout draws tokens from logits `(batch, time, vocabulary)`: leave "
                "out a softmax at the end, or give the model up to it."
            )
            return [Issue("no_logits", ERROR, message, hint)]
    wrong = [role for role in models if context.caches.get(role) is False]
    if wrong:
        message = (
            f"{name}: the {' and the '.join(wrong)} has other logits with its cache of "
            "keys and values than without, as KerasHub's GPT-NeoX: it would draw "
            "tokens of another distribution than the one that is trained."
        )
        hint = (
            "Give it without the cache, as `keras.Model(model.input, model.output)`: "
            "each token is then a full forward pass."
        )
        return [Issue("wrong_cache", ERROR, message, hint)]
    slow = [role for role, model in models.items() if not has_cache(model)]
    if not slow:
        return []
    message = (
        f"{name}: no cache of keys and values in the {' and the '.join(slow)}: each "
        "token is a full forward pass."
    )
    hint = "A KerasHub `CausalLM` has one."
    return [Issue("no_cache", WARNING, message, hint)]
