"""Next-token logits of language models, position by position."""

import inspect

from keras import ops


def make_decoder(model, token_ids, padding_mask):
    """A `CachedDecoder` for a KerasHub `CausalLM`, else a `FullDecoder`."""
    if has_cache(model):
        return CachedDecoder(model, token_ids, padding_mask)
    return FullDecoder(model)


def has_cache(model):
    """Whether a model is a KerasHub `CausalLM`, which keeps keys and values."""
    return hasattr(model, "generate_step") and hasattr(model, "sampler")


class FullDecoder:
    """Any Keras model from token ids to logits: each token is a full forward pass.

    Attributes:
        cache: What `score` takes and returns.
    """

    def __init__(self, model):
        self.model = model
        self.cache: tuple = ()

    def score(self, token_ids, cache, start, count):
        """The logits of `count` tokens from position `start` on, and the cache.

        Args:
            token_ids: `(batch, length)`, complete before `start + count - 1`.
            cache: The result of an earlier call for these tokens, or `cache`.
            start: A position from 1 on, an integer tensor.
            count: A Python integer.

        Returns:
            `(logits, cache)`: float32, `(batch, count, vocabulary)`.
        """
        length = token_ids.shape[1]
        is_known = ops.arange(length) < start + count - 1
        mask = ops.logical_and(is_known[None], ops.ones_like(token_ids, "bool"))
        x = model_inputs(self.model, token_ids, mask)
        outputs = ops.cast(self.model(x, training=False), "float32")
        batch, vocabulary = ops.shape(outputs)[0], outputs.shape[-1]
        shape = batch, count, vocabulary
        return ops.slice(outputs, (0, start - 1, 0), shape), cache


class CachedDecoder:
    """A KerasHub `CausalLM`, with its own cache of keys and values.

    Attributes:
        cache: What `score` takes and returns.
    """

    def __init__(self, model, token_ids, padding_mask):
        sampler, handover = model.sampler, _Handover()
        model.sampler = handover
        try:
            x = {"token_ids": token_ids, "padding_mask": padding_mask}
            model.generate_step(x, stop_token_ids=None)
        finally:
            model.sampler = sampler
        self._next, self.cache = handover.next, handover.cache
        self._model = model

    def score(self, token_ids, cache, start, count):
        """See `FullDecoder.score`."""
        if count > 1 and _takes_windows(self._model):
            shape = ops.shape(token_ids)[0], count
            window = ops.slice(token_ids, (0, start - 1), shape)
            outputs, _, cache = self._model.call_with_cache(window, cache, start - 1)
            return ops.cast(outputs, "float32"), cache
        outputs = []
        for position in range(count):
            output, _, cache = self._next(token_ids, cache, start + position)
            outputs.append(ops.cast(output, "float32"))
        return ops.stack(outputs, axis=1), cache


class _Handover:
    """In place of a KerasHub sampler: keeps what `generate_step` calls it with."""

    variables = ()

    def __call__(self, next, prompt, cache=None, **kwargs):
        self.next, self.cache = next, cache
        return prompt


def _takes_windows(model):
    if not hasattr(model, "call_with_cache"):
        return False
    parameters = list(inspect.signature(model.call_with_cache).parameters.values())
    names = [parameter.name for parameter in parameters[:3]]
    is_plain = all(p.default is not p.empty for p in parameters[3:])
    return is_plain and names == ["token_ids", "cache", "cache_update_index"]


def takes_mask(model):
    """Whether a model takes `{"token_ids", "padding_mask"}`, else token ids alone."""
    return isinstance(getattr(model, "input", None), dict)


def model_inputs(model, token_ids, padding_mask):
    """Token ids as a model takes them: alone, or in a dictionary with their mask."""
    if takes_mask(model):
        return {"token_ids": token_ids, "padding_mask": padding_mask}
    return token_ids
