"""What cannot be computed from hidden states, with `Distiller(chunk_size=...)`."""

import keras

from keras_dtkd.core.issue import ERROR, Issue

CODE = "chunk_size"
HEAD_HINT = (
    "It needs KerasHub `CausalLM`s whose logits are hidden states times an embedding. "
    "Leave `chunk_size` out."
)


def check_chunks(context):
    """Models without such a head, and losses that need all logits."""
    if context.chunk_size is None:
        return
    for role, head in context.heads.items():
        if not head:
            message = (
                f"`Distiller`: the {role}'s logits cannot be computed a part at a time "
                "(`chunk_size`)."
            )
            yield Issue(CODE, ERROR, message, HEAD_HINT)
    for name, loss in context.losses.items():
        is_plain = loss.view is None and loss.distilled_output is None
        if not is_plain or loss.chunked_arguments() is None:
            message = (
                f"`Distiller`: `{name}` needs all logits, and `chunk_size` is set."
            )
            hint = (
                "`KD` and `GeneralizedJSD` at a constant temperature do without. Take "
                "one of these, or leave `chunk_size` out."
            )
            yield Issue(CODE, ERROR, message, hint)
    compiled = context.compiled
    if compiled is None or context.sample.y is None or compiled.loss is None:
        return
    if compiled.loss_weights is not None:
        message = (
            "`Distiller`: `loss_weights` are compiled, and do not count with "
            "`chunk_size`."
        )
        hint = "Use `Distiller(task_weight=...)`."
        yield Issue(CODE, ERROR, message, hint)
    if context.has_own_loss or not is_token_cross_entropy(compiled.loss):
        message = (
            "`Distiller`: the task loss needs all logits, and `chunk_size` is set."
        )
        hint = (
            "Compile with `keras.losses.SparseCategoricalCrossentropy(from_logits="
            "True)`, or leave `chunk_size` out."
        )
        yield Issue(CODE, ERROR, message, hint)


def is_token_cross_entropy(loss):
    """Whether a compiled loss is the mean cross-entropy of token ids with logits."""
    if not isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        return False
    config = loss.get_config()
    reductions = "sum_over_batch_size", "mean", "mean_with_sample_weight"
    return (
        config.get("from_logits") is True
        and config.get("ignore_class") is None
        and config.get("reduction") in reductions
    )
