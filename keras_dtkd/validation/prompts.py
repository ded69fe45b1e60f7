"""Prompts that a rollout cannot go on from."""

import numpy as np

from keras_dtkd.core import arrays
from keras_dtkd.core.issue import ERROR, WARNING, Issue
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.rollouts.decoders import has_cache, takes_mask

FORM = (
    'Give `{"token_ids": ..., "padding_mask": ...}`, integers of shape `(batch, '
    "length)`, padded on the right."
)


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
    keys = "token_ids", "padding_mask"
    if not isinstance(data, dict) or not {*keys} <= {*data}:
        found = sorted(data) if isinstance(data, dict) else arrays.describe_shapes(data)
        message = f"{name}: the data are no prompts: {found}."
        hint = FORM if "padding_mask" in found else f"{FORM} Without padding all are 1."
        return [Issue("no_prompts", ERROR, message, hint)]
    if sample.y is not None:
        message = f"{name}: the prompts have labels, and the rollout makes its own."
        hint = "Give `fit(prompts)` alone; responses are marked by a `response_mask`."
        return [Issue("no_prompts", ERROR, message, hint)]
    token_ids, mask = (arrays.to_numpy(data[key]) for key in keys)
    if token_ids.ndim != 2 or token_ids.shape != mask.shape:
        message = f"{name}: prompts of shape {token_ids.shape}, mask {mask.shape}."
        return [Issue("no_prompts", ERROR, message, FORM)]
    if token_ids.dtype.kind not in "iu":
        message = f"{name}: the token ids of the prompts are {token_ids.dtype}."
        return [Issue("no_prompts", ERROR, message, FORM)]
    length = token_ids.shape[1]
    if length > rollout.max_length:
        message = (
            f"{name}: the prompts have {length} positions, and `max_length` is "
            f"{rollout.max_length}."
        )
        hint = "`max_length` counts the prompt too: give a larger one."
        return [Issue("long_prompts", ERROR, message, hint)]
    is_prompt = mask != 0
    responses = data.get("response_mask")
    if responses is not None:
        responses = arrays.to_numpy(responses)
        if responses.shape != mask.shape:
            message = f"{name}: a `response_mask` of shape {responses.shape}."
            return [Issue("no_prompts", ERROR, message, FORM)]
        is_prompt &= responses == 0
    elif rollout.uses_data:
        is_prompt[:, 1:] = False
    returns = (np.diff(is_prompt.astype("int8"), axis=1) > 0).any(1)
    if returns.any():
        found = f"{returns.sum()} of {len(mask)}"
        message = f"{name}: {found} prompts are not padded on the right."
        return [Issue("left_padding", ERROR, message, FORM)]
    is_empty = ~is_prompt.any(1)
    if is_empty.any():
        message = f"{name}: {is_empty.sum()} of {len(mask)} prompts have no tokens."
        hint = "A sequence needs its first token, such as the tokenizer's start token."
        return [Issue("empty_prompts", ERROR, message, hint)]
    if is_prompt.all(1).all() and length == rollout.max_length:
        message = f"{name}: all prompts have `max_length={length}` tokens already."
        hint = "`max_length` counts the prompt too: give a larger one."
        return [Issue("long_prompts", ERROR, message, hint)]
    return []


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
    slow = [role for role, model in models.items() if not has_cache(model)]
    if not slow:
        return []
    message = (
        f"{name}: no cache of keys and values in the {' and the '.join(slow)}: each "
        "token is a full forward pass."
    )
    hint = "A KerasHub `CausalLM` has one."
    return [Issue("no_cache", WARNING, message, hint)]
