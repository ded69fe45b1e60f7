"""Whether prompts have the form that a rollout can go on from."""

import numpy as np

from keras_dtkd.core import arrays
from keras_dtkd.core.issue import ERROR, WARNING, Issue

FORM = (
    'Give `{"token_ids": ..., "padding_mask": ...}`, integers of shape `(batch, '
    "length)`, padded on the right."
)


def find_prompt_issues(rollout, data, has_labels=False):
    """What is wrong with a batch of prompts, or with all of them."""
    name = f"`{type(rollout).__name__}`"
    keys = "token_ids", "padding_mask"
    if not isinstance(data, dict) or not {*keys} <= {*data}:
        found = sorted(data) if isinstance(data, dict) else arrays.describe_shapes(data)
        message = f"{name}: the data are no prompts: {found}."
        hint = FORM if "padding_mask" in found else f"{FORM} Without padding all are 1."
        return [Issue("no_prompts", ERROR, message, hint)]
    if has_labels:
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
    is_full = is_prompt.all(1) & (length == rollout.max_length)
    if is_full.any():
        found = "all" if is_full.all() else f"{is_full.sum()} of {len(mask)}"
        message = f"{name}: {found} prompts have `max_length={length}` tokens already."
        hint = "`max_length` counts the prompt too: give a larger one."
        severity = ERROR if is_full.all() else WARNING
        return [Issue("long_prompts", severity, message, hint)]
    return []
