"""Next-token logits of language models, position by position."""

import inspect

import keras
from keras import ops


def make_decoder(model, prompts):
    """A `CachedDecoder` for a KerasHub `CausalLM`, else a `FullDecoder`.

    `prompts` are those of `Rollout.generate`.
    """
    if has_cache(model):
        decoder = CachedDecoder(model, prompts)
        # A cache of other states cannot go back to an earlier position.
        if not keras.tree.is_nested(decoder.cache):
            return decoder
    return FullDecoder(model, prompts)


def has_cache(model):
    """Whether a model is a KerasHub `CausalLM` with a cache of keys and values."""
    if not hasattr(model, "generate_step") or not hasattr(model, "call_with_cache"):
        return False
    parameters = list(inspect.signature(model.call_with_cache).parameters.values())
    names = [parameter.name for parameter in parameters[:3]]
    is_plain = all(p.default is not p.empty for p in parameters[3:])
    return is_plain and names == ["token_ids", "cache", "cache_update_index"]


class FullDecoder:
    """Any Keras model from token ids to logits: each token is a full forward pass.

    Attributes:
        cache: What `score` takes and returns.
    """

    def __init__(self, model, prompts):
        self.model, self.num_tokens = model, prompts["num_tokens"]
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
        # Nothing follows the last token: as in training, it is no input.
        token_ids = token_ids[:, :-1]
        is_known = ops.arange(token_ids.shape[1]) < start + count - 1
        mask = ops.logical_and(is_known[None], ops.ones_like(token_ids, "bool"))
        x = model_inputs(self.model, token_ids, mask)
        outputs = ops.cast(self.model(x, training=False), "float32")
        batch, vocabulary = ops.shape(outputs)[0], outputs.shape[-1]
        shape = batch, count, vocabulary
        outputs = ops.slice(outputs, (0, start - 1, 0), shape)
        return outputs[..., : self.num_tokens], cache


class CachedDecoder:
    """A KerasHub `CausalLM`, with its own cache of keys and values.

    Attributes:
        cache: What `score` takes and returns.
    """

    def __init__(self, model, prompts):
        self.model, self.num_tokens = model, prompts["num_tokens"]
        sampler, handover = model.sampler, _Handover()
        model.sampler = handover
        names = "token_ids", "padding_mask"
        try:
            x = {name: prompts[name][:, :-1] for name in names}
            model.generate_step(x, stop_token_ids=None)
        finally:
            model.sampler = sampler
        self.cache = handover.cache

    def score(self, token_ids, cache, start, count):
        """See `FullDecoder.score`."""
        shape = ops.shape(token_ids)[0], count
        window = ops.slice(token_ids, (0, start - 1), shape)
        outputs, _, cache = self.model.call_with_cache(window, cache, start - 1)
        return ops.cast(outputs, "float32")[..., : self.num_tokens], cache


class _Handover:
    """In place of a KerasHub sampler: keeps what `generate_step` calls it with."""

    variables = ()

    def __call__(self, next, prompt, cache=None, **kwargs):
        self.cache = cache
        return prompt


def takes_mask(model):
    """Whether a model takes `{"token_ids", "padding_mask"}`, else token ids alone."""
    return isinstance(getattr(model, "input", None), dict)


def model_inputs(model, token_ids, padding_mask):
    """Token ids as a model takes them: alone, or in a dictionary with their mask."""
    if takes_mask(model):
        return {"token_ids": token_ids, "padding_mask": padding_mask}
    return token_ids
