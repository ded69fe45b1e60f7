"""Rollouts in which one model draws all tokens."""

import keras
from keras import ops

from keras_dtkd.rollouts.base import Rollout, find_shortest_prompt
from keras_dtkd.rollouts.decoders import make_decoder


def draw_sequences(rollout, role, model, prompts, uniforms):
    """One model's tokens after the prompts: see `Rollout.generate`.

    `role` is `"student"` or `"teacher"`.
    """
    tokens, is_prompt = prompts["token_ids"], prompts["padding_mask"]
    decoder = make_decoder(model, prompts)

    def is_unfinished(index, tokens, cache):
        return rollout.is_unfinished(tokens, prompts, index)

    def add_token(index, tokens, cache):
        outputs, cache = decoder.score(tokens, cache, index, 1)
        token = rollout.draw(role, outputs[:, 0], uniforms[index])
        token = ops.where(is_prompt[:, index], tokens[:, index], token)
        tokens = ops.slice_update(tokens, (0, index), token[:, None])
        return index + 1, tokens, cache

    start = find_shortest_prompt(prompts), tokens, decoder.cache
    steps = rollout.max_length
    _, tokens, _ = ops.while_loop(is_unfinished, add_token, start, steps)
    return tokens, rollout.find_generated(tokens, prompts), None


@keras.saving.register_keras_serializable("keras_dtkd")
class Student(Rollout):
    """The student's own tokens: on-policy distillation.

    Arguments: see `Rollout`; `teacher_temperature` is not used.

    Reference:
        Agarwal et al., "On-Policy Distillation of Language Models", arXiv 2306.13649,
        with λ = 1. No gradient passes through the drawing, as there.

    Example:

    >>> rollout = rollouts.Student(max_length=256, stop_token_ids=[2])
    >>> Distiller(teacher, student, KD(1.0, "reverse_kl"), rollout=rollout).fit(prompts)
    """

    uses_student = True

    def generate(self, student, teacher, prompts, uniforms):
        return draw_sequences(self, "student", student, prompts, uniforms)


@keras.saving.register_keras_serializable("keras_dtkd")
class Teacher(Rollout):
    """The teacher's tokens, new in each step, which are labels too.

    Arguments: see `Rollout`; `student_temperature` is not used. With `task_weight=0`
    the distillation losses alone are trained; with `KD(1.0, weight=0.0)` it is
    sequence-level distillation.

    Reference:
        Kim and Rush, "Sequence-Level Knowledge Distillation", arXiv 1606.07947, where
        the teacher's beam search is stored once.
    """

    uses_teacher = True
    has_labels = True

    def generate(self, student, teacher, prompts, uniforms):
        return draw_sequences(self, "teacher", teacher, prompts, uniforms)
