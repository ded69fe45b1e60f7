"""Divergences of two language models from their hidden states, a part at a time."""

import keras
from keras import ops

from keras_dtkd.functional import divergences
from keras_dtkd.functional.statistics import soft_log_probs

BETAS = {"kl": 0.0, "jsd": 0.5, "reverse_kl": 1.0}


def chunked_divergence(
    student_hidden,
    student_embedding,
    teacher_hidden,
    teacher_embedding,
    weights=None,
    divergence="kl",
    temperature=1.0,
    chunk_size=1024,
    convention="gkd",
):
    """The weighted mean divergence over tokens, without the logits of all of them.

    Logits are `hidden @ embedding.T`. Those of `chunk_size` tokens exist at a time, and
    the gradient is computed along with the value, so that the memory for a vocabulary
    of 128,000 does not grow with the number of tokens. Value and gradient are those of
    the plain form, `functional.divergences` of all logits.

    Args:
        student_hidden: Last hidden states, `(..., student width)`.
        student_embedding: The output embedding, `(classes, student width)`; as the
            hidden states it receives a gradient.
        teacher_hidden: `(..., teacher width)`. No gradient reaches the teacher.
        teacher_embedding: `(classes, teacher width)`.
        weights: Of the tokens, `(...)`, 0 for one that does not count. Optional.
        divergence: `"kl"`, `"reverse_kl"`, `"jsd"`, or the β of `generalized_jsd`.
        temperature: Divides both models' logits. A number or a scalar tensor.
        chunk_size: Tokens at a time.
        convention: Of `generalized_jsd`.

    Returns:
        A float32 scalar: `Σ w D / Σ w` in nats, 0 where all weights are 0.

    Raises:
        ValueError: Vocabularies of unequal size, an unknown divergence or convention, a
            `chunk_size` below 1, weights or hidden states of other tokens.
    """
    beta = BETAS.get(divergence, divergence)
    if isinstance(beta, str) or not 0 <= beta <= 1:
        raise ValueError(
            f"`divergence` must be one of {', '.join(map(repr, BETAS))}, or a β from 0 "
            f"to 1. Received: divergence={divergence!r}."
        )
    arrays = student_hidden, student_embedding, teacher_hidden, teacher_embedding
    student_hidden, student_embedding, *teacher = map(ops.convert_to_tensor, arrays)
    teacher_hidden, teacher_embedding = map(ops.stop_gradient, teacher)
    sizes = student_embedding.shape[0], teacher_embedding.shape[0]
    if sizes[0] != sizes[1]:
        raise ValueError(
            "Both output embeddings must have a row for each class. Received: "
            f"{sizes[0]} rows of the student's, {sizes[1]} of the teacher's."
        )

    def evaluate(log_q, from_teacher):
        log_p = _log_probs(from_teacher, teacher_embedding, temperature)
        values = divergences.generalized_jsd(log_p, log_q, beta, convention)
        return values, _logit_gradient(log_p, log_q, beta, convention)

    _check_tokens("teacher_hidden", teacher_hidden.shape[:-1], student_hidden)
    teacher_hidden = ops.reshape(teacher_hidden, (-1, teacher_hidden.shape[-1]))
    options = weights, temperature, chunk_size
    return _mean(evaluate, student_hidden, student_embedding, teacher_hidden, *options)


def chunked_cross_entropy(hidden, embedding, labels, weights=None, chunk_size=1024):
    """The weighted mean cross-entropy of labels, without the logits of all tokens.

    Args:
        hidden: Last hidden states, `(..., width)`.
        embedding: The output embedding, `(classes, width)`.
        labels: Token ids, `(...)`.
        weights: As in `chunked_divergence`, like `chunk_size`.

    Returns:
        A float32 scalar: `−Σ w log q(label) / Σ w` in nats, 0 where all weights are 0.

    Raises:
        ValueError: Not one label or weight a token; a `chunk_size` below 1.
    """
    hidden, embedding = map(ops.convert_to_tensor, (hidden, embedding))

    def evaluate(log_q, tokens):
        tokens = ops.cast(tokens, "int32")
        target = ops.cast(ops.arange(log_q.shape[-1]) == tokens, "float32")
        return -ops.sum(target * log_q, axis=-1), ops.exp(log_q) - target

    labels = ops.convert_to_tensor(labels)
    _check_tokens("labels", labels.shape, hidden)
    labels = ops.reshape(labels, (-1, 1))
    return _mean(evaluate, hidden, embedding, labels, weights, 1.0, chunk_size)


def _mean(evaluate, hidden, embedding, others, weights, temperature, chunk_size):
    """The weighted mean of a function of log-probabilities, a chunk at a time.

    `evaluate(log_q, others)` gives the values of a chunk, and their derivatives by the
    logits at temperature 1; `others` is `(tokens, ...)` of rank 2.
    """
    if chunk_size < 1:
        raise ValueError(f"`chunk_size` must be at least 1. Received: {chunk_size}.")
    if weights is None:
        weights = ops.ones(ops.shape(hidden)[:-1])
    weights = ops.convert_to_tensor(weights)
    _check_tokens("weights", weights.shape, hidden)
    weights = ops.stop_gradient(ops.cast(ops.reshape(weights, (-1, 1)), "float32"))
    # Under mixed precision hidden states are halves, and the embedding is float32.
    dtype = keras.backend.result_type(hidden.dtype, embedding.dtype)
    total, count = ops.sum(weights), ops.cast(ops.size(weights), "float32")
    # About 1 each: divided by the number of tokens, half precision would lose them.
    weights = weights * count / ops.where(total > 0, total, 1.0)

    @ops.custom_gradient
    def mean(hidden, embedding):
        padded = [_pad(a, chunk_size) for a in (hidden, others, weights)]

        def add_chunk(number, carry):
            """Adds a chunk's values, and the gradients of them."""
            value, by_hidden, by_embedding = carry
            start = number * chunk_size
            states, other, weight = (
                ops.slice(a, (start, 0), (chunk_size, a.shape[1])) for a in padded
            )
            values, slope = evaluate(_log_probs(states, embedding, temperature), other)
            slope = ops.cast(slope * weight / temperature, dtype)
            by_states = ops.cast(ops.matmul(slope, embedding), "float32") / count
            part = ops.matmul(ops.transpose(slope), states)
            return (
                value + ops.sum(weight[:, 0] * values) / count,
                ops.slice_update(by_hidden, (start, 0), by_states),
                by_embedding + ops.cast(part, "float32") / count,
            )

        by_hidden = ops.zeros_like(padded[0], dtype="float32")
        start = ops.zeros(()), by_hidden, ops.zeros(embedding.shape)
        chunks = ops.shape(padded[0])[0] // chunk_size
        value, *gradients = ops.fori_loop(0, chunks, add_chunk, start)
        gradients[0] = gradients[0][: ops.shape(hidden)[0]]

        def gradient(*args, upstream=None):
            if upstream is None:
                (upstream,) = args
            return tuple(
                ops.cast(upstream * g, tensor.dtype)
                for g, tensor in zip(gradients, (hidden, embedding), strict=True)
            )

        return value, gradient

    return mean(ops.reshape(hidden, (-1, hidden.shape[-1])), embedding)


def _check_tokens(name, shape, hidden):
    """Raises a `ValueError` unless there is one of something for each token."""
    expected = tuple(hidden.shape[:-1])
    pairs = zip(shape, expected, strict=False)
    # A pipeline may have lost some sizes.
    is_same = all(a is None or b is None or a == b for a, b in pairs)
    if len(shape) != len(expected) or not is_same:
        raise ValueError(
            f"`{name}` must have one for each token, {expected}. Received: shape "
            f"{tuple(shape)}."
        )


def _log_probs(hidden, embedding, temperature):
    logits = ops.matmul(hidden, ops.transpose(embedding))
    return soft_log_probs(ops.cast(logits, "float32"), temperature)


def _logit_gradient(log_p, log_q, beta, convention):
    """Of `generalized_jsd` by the student's logits, at temperature 1."""
    q = ops.exp(log_q)
    if beta == 0:
        return q - ops.exp(log_p)
    if beta == 1:
        slope = log_q - log_p
    else:
        mixture = divergences.log_mixture(log_p, log_q, beta)
        share = 1 - beta if convention == "gkd" else beta
        slope = share * (log_q - mixture)
        if convention == "continuous":
            # There the mixture's own derivative does not cancel.
            parts = (1 - beta) * ops.exp(log_p) + beta * q
            slope = slope - (1 - beta) * parts / ops.exp(mixture)
    # A class that no model takes for possible.
    slope = ops.where(q > 0, slope, 0.0)
    return q * (slope - ops.sum(q * slope, axis=-1, keepdims=True))


def _pad(array, size):
    """`(count, width)`, filled with 0 to a multiple of `size`."""
    missing = -ops.shape(array)[0] % size
    return ops.concatenate([array, ops.zeros((missing, array.shape[1]), array.dtype)])
