"""Drawing tokens by inverse transform, and what a teacher accepts of a draft."""

from keras import ops

# A temperature below this is greedy: the most probable token, whatever is drawn.
MIN_TEMPERATURE = 1e-6


def token_probs(logits, temperature=1.0, top_p=1.0):
    """The probabilities that tokens are drawn with, float32.

    Args:
        logits: `(..., vocabulary)`.
        temperature: Divides the logits. 0 is greedy.
        top_p: Keeps the fewest most probable tokens that together reach it, and gives
            all others the probability 0. 1 keeps all.

    Returns:
        `(..., vocabulary)`, which sum to 1.
    """
    logits = ops.cast(logits, "float32")
    # First the maximum: logits divided by a small temperature would be infinite.
    logits = logits - ops.max(logits, axis=-1, keepdims=True)
    probs = ops.softmax(logits / ops.maximum(temperature, MIN_TEMPERATURE), axis=-1)
    if isinstance(top_p, int | float) and top_p >= 1:
        return probs
    probs = ops.where(_mass_before(probs) < top_p, probs, 0.0)
    return probs / ops.sum(probs, axis=-1, keepdims=True)


def draw_tokens(logits, uniforms, temperature=1.0, top_p=1.0):
    """Draws one token a row by inverse transform of a uniform number.

    Args:
        logits: `(..., vocabulary)`.
        uniforms: `(...)`, in [0, 1).
        temperature: See `token_probs`.
        top_p: See `token_probs`.

    Returns:
        Token ids `(...)`, int32. None has probability 0.
    """
    probs = token_probs(logits, temperature, top_p)
    cumulative = ops.cumsum(probs, axis=-1)
    is_reached = cumulative > uniforms[..., None] * cumulative[..., -1:]
    # A sum in parallel need not rise with every token.
    is_drawn = ops.logical_and(is_reached, probs > 0)
    first = ops.argmax(ops.cast(is_drawn, "int32"), axis=-1)
    # Rounding may carry the draw beyond the last token of any probability.
    positive = ops.cast(probs > 0, "int32")
    last = probs.shape[-1] - 1 - ops.argmax(ops.flip(positive, axis=-1), axis=-1)
    token = ops.where(ops.any(is_drawn, axis=-1), first, last)
    return ops.cast(token, "int32")


def token_ranks(logits, tokens):
    """How many tokens precede one in the order of their logits, from 0.

    Equal logits are in the order of their ids, as `ops.top_k` has them.

    Args:
        logits: `(..., vocabulary)`.
        tokens: Token ids `(...)`.
    """
    own = ops.take_along_axis(logits, tokens[..., None], axis=-1)
    ids = ops.arange(logits.shape[-1], dtype=tokens.dtype)
    is_tied = ops.logical_and(logits == own, ids < tokens[..., None])
    is_before = ops.logical_or(logits > own, is_tied)
    return ops.sum(ops.cast(is_before, "int32"), axis=-1)


def is_in_nucleus(logits, tokens, top_p):
    """Whether tokens are among the fewest that reach the probability `top_p`.

    Args:
        logits: `(..., vocabulary)`.
        tokens: Token ids `(...)`.
        top_p: A number from 0 to 1.
    """
    before = _mass_before(token_probs(logits))
    return ops.take_along_axis(before, tokens[..., None], axis=-1)[..., 0] < top_p


def _mass_before(probs):
    """The probability of all tokens that precede each, `(..., vocabulary)`."""
    order = ops.argsort(-probs, axis=-1)
    ordered = ops.take_along_axis(probs, order, axis=-1)
    before = ops.cumsum(ordered, axis=-1) - ordered
    return ops.take_along_axis(before, ops.argsort(order, axis=-1), axis=-1)
