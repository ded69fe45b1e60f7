"""Speculative knowledge distillation: the student drafts, the teacher corrects."""

import keras
from keras import ops

from keras_dtkd.core.arguments import check_choice, check_positive_int
from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.rollouts import sampling
from keras_dtkd.rollouts.base import Rollout, find_shortest_prompt
from keras_dtkd.rollouts.decoders import make_decoder


@keras.saving.register_keras_serializable("keras_dtkd")
class Speculative(Rollout):
    """The student draws each token; the teacher replaces those that it would not.

    A token of the student is kept where it is among the `k` that the teacher finds
    most probable, by its raw logits; else the teacher draws another one in its place.
    `k=0` is `Teacher`, and `k` of at least the vocabulary is `Student`, token for
    token from the same random numbers. A student that improves is kept more often:
    there is no schedule.

    Args:
        max_length: See `Rollout`, like all that is not named here.
        k: K. Not negative. Can be changed during training.
        block: How many tokens the student drafts before the teacher scores them in one
            pass. It changes the speed and not the tokens, up to rounding.
        acceptance: `"top_k"`; or `"top_p"`: a token is kept where it is among the
            fewest that together have the probability `top_p` for the teacher, at
            temperature 1.
        **kwargs: See `Rollout`.

    Raises:
        ValueError: A number out of range; `acceptance="top_p"` with `top_p=1`, which
            keeps every token.

    Reference:
        Xu et al., "Speculative Knowledge Distillation", arXiv 2410.11325, algorithm 1.
        The authors' code tests another token than it appends, takes the K after
        temperature and top-p, draws with the teacher's temperature, and leaves the
        first token out of the loss; we follow the paper. See docs/language.md.

    Example:

    >>> rollout = rollouts.Speculative(max_length=256, k=25, stop_token_ids=[2])
    >>> Distiller(teacher, student, KD(temperature=1.0), rollout=rollout).fit(prompts)
    """

    k = Hyperparameter(minimum=0.0)
    uses_student = True
    uses_teacher = True
    has_acceptance = True

    def __init__(self, max_length=None, k=25, block=1, acceptance="top_k", **kwargs):
        super().__init__(max_length, **kwargs)
        self.k = k
        self.block = check_positive_int("Speculative", "block", block)
        choices = "top_k", "top_p"
        self.acceptance = check_choice("Speculative", "acceptance", acceptance, choices)
        if acceptance == "top_p" and self.top_p == 1:
            raise ValueError(
                '`Speculative`: `acceptance="top_p"` with `top_p=1` keeps every token. '
                "Give a `top_p` below 1."
            )

    def accepts(self, teacher_logits, tokens):
        """Whether the teacher keeps drafted tokens.

        Args:
            teacher_logits: `(..., vocabulary)`, as the teacher gives them.
            tokens: `(...)`.

        Returns:
            Booleans, `(...)`.
        """
        if self.acceptance == "top_p":
            return sampling.is_in_nucleus(teacher_logits, tokens, self.top_p)
        ranks = sampling.token_ranks(teacher_logits, tokens)
        return ops.cast(ranks, "float32") < self.hyperparameter("k")

    def generate(self, student, teacher, prompts, uniforms):
        first, is_prompt = prompts["token_ids"], prompts["padding_mask"]
        drafting, scoring = (make_decoder(m, prompts) for m in (student, teacher))
        block = min(self.block, self.max_length - 1)

        def is_unfinished(index, tokens, accepted, caches):
            return self.is_unfinished(tokens, prompts, index)

        def add_tokens(index, tokens, accepted, caches):
            draft_cache, score_cache = caches
            # The last block ends with the sequence: it begins with tokens that stay.
            start = ops.minimum(index, self.max_length - block)
            stays = []
            for position in range(block):
                at = start + position
                outputs, draft_cache = drafting.score(tokens, draft_cache, at, 1)
                draft = self.draw("student", outputs[:, 0], uniforms[at])
                stays.append(ops.logical_or(is_prompt[:, at], at < index))
                draft = ops.where(stays[-1], tokens[:, at], draft)
                tokens = ops.slice_update(tokens, (0, at), draft[:, None])
            outputs, score_cache = scoring.score(tokens, score_cache, start, block)
            shape = ops.shape(tokens)[0], block
            drafts = ops.slice(tokens, (0, start), shape)
            keeps = self.accepts(outputs, drafts)
            draws = ops.slice(uniforms, (start, 0, 0), (block, *shape[:1], 2))
            draws = ops.transpose(draws, (1, 0, 2))
            corrections = self.draw("teacher", outputs, draws)
            stays = ops.stack(stays, axis=1)
            new = ops.where(ops.logical_or(keeps, stays), drafts, corrections)
            # What follows a correction was drafted for another text: the next block
            # begins where the first sequence needs it, and drafts the same again.
            stopped = self.has_stopped(tokens, prompts, start)
            holds = ops.logical_or(keeps, ops.logical_or(stays, stopped[:, None]))
            count = _count_until_correction(holds)
            tokens = ops.slice_update(tokens, (0, start), new)
            keeps = ops.where(stays, ops.slice(accepted, (0, start), shape), keeps)
            accepted = ops.slice_update(accepted, (0, start), keeps)
            return start + count, tokens, accepted, (draft_cache, score_cache)

        caches = drafting.cache, scoring.cache
        begin = find_shortest_prompt(prompts), first, ops.zeros_like(is_prompt), caches
        _, tokens, accepted, _ = ops.while_loop(
            is_unfinished, add_tokens, begin, self.max_length
        )
        return tokens, self.find_generated(tokens, prompts), accepted


def _count_until_correction(holds):
    """How many tokens of a block are final for all sequences.

    `holds` is `(batch, block)`; the first token that does not hold has been corrected.
    """
    prefix = ops.sum(ops.cumprod(ops.cast(holds, "int32"), axis=1), axis=1)
    return ops.min(ops.minimum(prefix + 1, holds.shape[1]))
