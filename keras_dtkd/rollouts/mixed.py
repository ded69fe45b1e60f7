"""Rollouts that take the data's responses, always or in part."""

import keras
from keras import ops

from keras_dtkd.core.arguments import check_choice
from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.rollouts.base import Rollout
from keras_dtkd.rollouts.sampled import draw_sequences


@keras.saving.register_keras_serializable("keras_dtkd")
class Data(Rollout):
    """The responses of the data itself: supervised distillation.

    No model draws anything; the responses are labels too.

    Arguments: see `Rollout`; only `max_length` is used.
    """

    uses_data = True
    has_labels = True

    def generate(self, student, teacher, prompts, uniforms):
        return take_responses(prompts)


def take_responses(prompts):
    """The data's own responses: see `Rollout.generate`."""
    responses, is_response = prompts["responses"], prompts["response_mask"]
    tokens = ops.where(is_response, responses, prompts["token_ids"])
    return tokens, is_response, None


@keras.saving.register_keras_serializable("keras_dtkd")
class Mixed(Rollout):
    """The student's own tokens in a part of the batches, else those of the data.

    Args:
        max_length: See `Rollout`, like all that is not named here.
        ratio: λ, from 0 to 1: the share of batches with the student's tokens. Can be
            changed during training.
        otherwise: Whose tokens the other batches have: `"data"` or `"teacher"`.
        **kwargs: See `Rollout`.

    Raises:
        ValueError: `ratio` is not in [0, 1], or an unknown `otherwise`.

    Reference:
        Agarwal et al., "On-Policy Distillation of Language Models", arXiv 2306.13649,
        algorithm 1, which decides once a batch. TRL calls λ `lmbda`, and
        `otherwise="teacher"` is its `seq_kd=True`.
    """

    ratio = Hyperparameter(minimum=0.0, maximum=1.0)
    uses_student = True

    def __init__(self, max_length=None, ratio=0.5, otherwise="data", **kwargs):
        super().__init__(max_length, **kwargs)
        self.ratio = ratio
        choices = "data", "teacher"
        self.otherwise = check_choice("Mixed", "otherwise", otherwise, choices)
        self.uses_teacher = otherwise == "teacher"
        self.uses_data = otherwise == "data"

    def generate(self, student, teacher, prompts, uniforms):
        def draw(role, model):
            return draw_sequences(self, role, model, prompts, uniforms)[:2]

        def take_others():
            if self.uses_teacher:
                return draw("teacher", teacher)
            return take_responses(prompts)[:2]

        # No token is drawn for position 0: its numbers are the batch's.
        is_on_policy = uniforms[0, 0, 0] < self.hyperparameter("ratio")
        results = ops.cond(is_on_policy, lambda: draw("student", student), take_others)
        return *results, None
