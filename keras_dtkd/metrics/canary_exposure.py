"""How well a language model remembers a secret that was planted in its data."""

import math

import keras
import numpy as np
from keras import ops

from keras_dtkd.core.arguments import check_positive_int
from keras_dtkd.metrics.inputs import row_weights


@keras.saving.register_keras_serializable("keras_dtkd")
class CanaryExposure(keras.metrics.Mean):
    """Mean exposure of secrets (canaries), in bits.

    `log2 |R| − log2 rank`, with the rank of the true secret among all candidates R by
    their likelihood, 1 for the likeliest. It is exact: every candidate is ranked. A
    secret that the model knows has `log2 |R|`, one that it does not know has 1.44 in
    the mean over many secrets (`log2 e`), and the worst rank is 0.

    The rank is 1 plus the number of candidates that are strictly likelier: the secret
    is first among equals, and where a likelihood is NaN. So a leak is never
    understated, but a model that gives all candidates exactly the same likelihood has
    full exposure.

    `y_true` are the places of the true secrets among the candidates, integers
    `(canaries,)`, and `y_pred` the candidates' log-likelihoods `(canaries, candidates)`
    (negate what are losses), as `keras_dtkd.metrics.score_candidates` gives them.

    Args:
        name: Name of the metric.
        dtype: Dtype of the result.

    Reference:
        Carlini et al., "The Secret Sharer", arXiv 1802.08232, whose exposure this is
        with all candidates ranked, none sampled. The paper breaks no ties.

    Example:

    >>> scores = score_candidates(student, prefix, pins)
    >>> exposure = CanaryExposure()
    >>> exposure.update_state([secret], scores[None])
    >>> float(exposure.result())
    """

    def __init__(self, name="canary_exposure", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Accumulates canaries; `sample_weight` is `(canaries,)`."""
        weights = row_weights(y_pred, sample_weight)
        scores = ops.cast(ops.convert_to_tensor(y_pred), "float32")
        index = ops.cast(ops.convert_to_tensor(y_true), "int32")[..., None]
        true = ops.take_along_axis(scores, index, axis=-1)
        rank = 1.0 + ops.sum(ops.cast(scores > true, "float32"), axis=-1)
        exposure = math.log2(scores.shape[-1]) - ops.log2(rank)
        super().update_state(exposure, weights)


def score_candidates(model, prefix, candidates, to_inputs=None, batch_size=256):
    """Log-likelihoods of all continuations of a prefix under a causal language model.

    The model runs once for each different beginning of the candidates (all tokens but
    the last): 1,000 times for all numbers of four digits.

    Args:
        model: From tokens `(batch, time)` to logits `(batch, time, vocabulary)`, of
            the token after each.
        prefix: The tokens before the secret, at least one.
        candidates: All candidates' tokens, `(candidates, length)`.
        to_inputs: Function from tokens to what the model takes, such as
            `lambda t: {"token_ids": t, "padding_mask": np.ones_like(t)}`. Optional.
        batch_size: How many beginnings the model runs on at once.

    Returns:
        `Σ log p(token | tokens before)` over the candidate's tokens, float64
        `(candidates,)`, for `CanaryExposure`.

    Raises:
        ValueError: No prefix, candidates that are no integers of shape
            `(candidates, length)`, or a `batch_size` below 1.
    """
    caller = "score_candidates"
    batch_size = check_positive_int(caller, "batch_size", batch_size)
    prefix, candidates = np.asarray(prefix), np.asarray(candidates)
    if prefix.ndim != 1 or not prefix.size:
        raise ValueError(
            f"`{caller}`: `prefix` must be a list of tokens, at least one. Received: "
            f"prefix={prefix.tolist()}."
        )
    is_tokens = candidates.ndim == 2 and candidates.dtype.kind in "iu"
    if not is_tokens or not candidates.size:
        raise ValueError(
            f"`{caller}`: `candidates` must be integers of shape (candidates, length). "
            f"Received: shape {candidates.shape}, {candidates.dtype}."
        )
    beginnings, index = np.unique(candidates[:, :-1], axis=0, return_inverse=True)
    count, length = len(beginnings), candidates.shape[1]
    # Whole batches: each new shape would be compiled again.
    padded = np.resize(beginnings, (-(-count // batch_size) * batch_size, length - 1))
    log_probs = []
    for start in range(0, count, batch_size):
        batch = padded[start : start + batch_size]
        prefixes = np.broadcast_to(prefix, (len(batch), len(prefix)))
        tokens = np.concatenate([prefixes, batch], axis=1).astype("int32")
        outputs = model.predict_on_batch(to_inputs(tokens) if to_inputs else tokens)
        logits = np.asarray(outputs, "float64")[:, -length:]
        logits = logits - logits.max(-1, keepdims=True)
        log_probs.append(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))
    # Of each candidate's beginning, `(candidates, length, vocabulary)` at its tokens.
    chosen = np.concatenate(log_probs)
    positions = np.arange(length)
    return chosen[index.reshape(-1, 1), positions, candidates].sum(-1)
