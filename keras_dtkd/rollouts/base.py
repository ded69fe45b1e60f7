"""The base class of rollouts: whose tokens a student is trained on."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_dtkd import backend
from keras_dtkd.core import arrays
from keras_dtkd.core.arguments import check_in_range, check_positive_int
from keras_dtkd.core.hooks import FitHooks
from keras_dtkd.core.hyperparameters import Hyperparameter, HyperparameterMixin
from keras_dtkd.core.issue import report_issues
from keras_dtkd.rollouts import sampling
from keras_dtkd.rollouts.prompts import find_prompt_issues
from keras_dtkd.rollouts.statistics import RolloutCallback, RolloutStatistics

# TRL's `max_new_tokens`.
NEW_TOKENS = 128


class RolloutResult(NamedTuple):
    """Sequences, and how they came to be.

    Attributes:
        token_ids: `(batch, max_length)`, int32: the prompts, and what follows them.
        generated: `(batch, max_length)`, booleans: which tokens follow a prompt, up to
            the first stop token, itself included.
        padding_mask: `(batch, max_length)`, booleans: prompts and generated tokens.
        statistics: Scalars by name, of this batch.
        accepted: `(batch, max_length)`, booleans: of the generated tokens, those that
            are the student's own. `None` where no two models take part.
    """

    token_ids: Any
    generated: Any
    padding_mask: Any
    statistics: dict
    accepted: Any = None

    @property
    def tokens(self):
        """The token that follows at each position but the last."""
        return self.token_ids[:, 1:]


class Rollout(FitHooks, HyperparameterMixin):
    """Base of the rollouts: each makes sequences of prompts, without gradient.

    In `Distiller(..., rollout=...)` it runs inside of each training step, before the
    teacher's forward pass. The losses compare both models at the generated tokens.

    Args:
        max_length: Length of the sequences, prompts included, in tokens. `None` is
            found once there are prompts: the `sequence_length` of the student's
            preprocessor, as in KerasHub's `generate`, and without one 128 tokens more
            than the prompts are long; with `uses_data` the length of the data.
        stop_token_ids: A sequence ends with the first of these. None by default.
        student_temperature: Divides the student's logits where it draws; 0 is greedy.
            Can be changed during training.
        teacher_temperature: That of the teacher. Can be changed during training.
        top_p: Both models draw from the fewest tokens that together have this
            probability. Above 0, at most 1.
        seed: Of the random numbers in training: an integer.

    Attributes:
        uses_student: Whether the student draws tokens.
        uses_teacher: Whether the teacher does.
        uses_data: Whether responses of the data are trained on.
        has_acceptance: Whether drafts of the student are kept or replaced.
        acceptance_by_position: With it, after each epoch of a `fit`: the share of kept
            tokens at each position of a response, NumPy, NaN where there was none.
        has_labels: Whether the generated tokens are labels, so that there is a task
            loss on them. A student's own are none.

    Call arguments:
        student: The student: a KerasHub `CausalLM`, or any model from token ids, or
            from `{"token_ids", "padding_mask"}`, to logits.
        teacher: The teacher, likewise.
        prompts: `{"token_ids": (batch, length), "padding_mask": (batch, length)}`,
            padded on the right; `length` is at most `max_length`. Where the data has
            responses too, a further `"response_mask"` is 1 at their tokens; for a
            rollout with `uses_data` these are, without it, all tokens but the first.
        uniforms: `(max_length, batch, 2)` in [0, 1): for the token at each position,
            one number for the student, one for the teacher.
        num_tokens: Only the first so many tokens of the vocabulary are drawn: models
            may have outputs for more than their tokenizer has. All by default.

    Returns:
        A `RolloutResult`.

    Raises:
        ValueError: A number out of range.
    """

    student_temperature = Hyperparameter(minimum=0.0)
    teacher_temperature = Hyperparameter(minimum=0.0)
    uses_student = False
    uses_teacher = False
    uses_data = False
    has_acceptance = False
    has_labels = False

    def __init__(
        self,
        max_length=None,
        stop_token_ids=(),
        student_temperature=1.0,
        teacher_temperature=1.0,
        top_p=1.0,
        seed=None,
        **kwargs,
    ):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        name = type(self).__name__
        if max_length is not None:
            check_positive_int(name, "max_length", max_length)
        self.max_length = max_length
        tokens: Any = [] if stop_token_ids is None else np.ravel(stop_token_ids)
        self.stop_token_ids = tuple(int(token) for token in tokens)
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.top_p = float(check_in_range(name, "top_p", top_p, 0, 1, inclusive=True))
        if not self.top_p:
            raise ValueError(f"`{name}`: `top_p` must be above 0. Received: 0.")
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def __call__(self, student, teacher, prompts, uniforms, num_tokens=None):
        # Not that of Keras's layers: models are no tensors.
        self.max_length = self.max_length or uniforms.shape[0]
        prompts = {**self.split_responses(prompts), "num_tokens": num_tokens}
        results = self.generate(student, teacher, prompts, uniforms)
        token_ids, generated, accepted = results
        is_token = ops.logical_or(prompts["padding_mask"], generated)
        token_ids = ops.where(is_token, token_ids, 0)
        if accepted is not None:
            accepted = ops.logical_and(accepted, generated)
        statistics = self.compute_statistics(generated, accepted)
        return RolloutResult(token_ids, generated, is_token, statistics, accepted)

    def sample(self, student, teacher, prompts, batch_size=32):
        """Sequences outside of any training, compiled.

        Args:
            student, teacher: As in the call; `None` for one that draws no tokens.
            prompts: As in the call, all of them, NumPy.
            batch_size: How many at a time.

        Returns:
            A `RolloutResult` of NumPy arrays, with numbers drawn from `seed`, of tokens
            that both models have.
        """
        self.find_max_length(student, prompts["token_ids"].shape[1])
        report_issues(find_prompt_issues(self, prompts))
        models = [model for model in (student, teacher) if model is not None]
        sizes = [_vocabulary_size(model) for model in models]
        num_tokens = min((size for size in sizes if size is not None), default=None)
        variables = [v for part in (*models, self) for v in part.variables]

        def run(prompts, uniforms):
            result = self(student, teacher, prompts, uniforms, num_tokens)
            return [
                part for part in result._replace(statistics=None) if part is not None
            ]

        run, parts = backend.jit(variables, run), []
        for start in range(0, len(prompts["token_ids"]), batch_size):
            rows = slice(start, start + batch_size)
            batch = arrays.to_tensors(arrays.take_rows(prompts, rows))
            uniforms = self.draw_uniforms(len(batch["token_ids"]))
            parts.append(map(ops.convert_to_numpy, run(batch, uniforms)))
        values = map(np.concatenate, zip(*parts, strict=True))
        token_ids, generated, mask, *others = values
        accepted = others[0] if others else None
        statistics = self.compute_statistics(generated, accepted)
        statistics = {name: float(value) for name, value in statistics.items()}
        return RolloutResult(token_ids, generated, mask, statistics, accepted)

    def generate(self, student, teacher, prompts, uniforms):
        """Overridden by a rollout of one's own.

        Args:
            student, teacher: The models.
            prompts: `token_ids` and `padding_mask` (booleans) of the prompts alone,
                `responses` and `response_mask` (booleans) of the data's responses, all
                of shape `(batch, max_length)`; and `num_tokens`.
            uniforms: As in the call.

        Returns:
            `(token_ids, generated, accepted)`, as in `RolloutResult`.
        """
        raise NotImplementedError(
            f"`{type(self).__name__}` must override `generate(student, teacher, "
            "prompts, uniforms)`."
        )

    def find_max_length(self, student, length):
        """Sets `max_length` where it is `None`, for prompts of `length` tokens."""
        if self.max_length is None:
            preprocessor = getattr(student, "preprocessor", None)
            new = 0 if self.uses_data else NEW_TOKENS
            found = getattr(preprocessor, "sequence_length", None)
            self.max_length = found or length + new

    def make_statistics(self):
        """The `RolloutStatistics` that a Distiller logs."""
        return RolloutStatistics(self.max_length, self.has_acceptance)

    def training_callbacks(self, distiller):
        """The one that logs the speed."""
        return [RolloutCallback(self, distiller.rollout_statistics)]

    def compute_statistics(self, generated, accepted):
        """`RolloutResult.statistics`: means over a batch."""
        lengths = ops.sum(ops.cast(generated, "float32"), axis=1)
        statistics = {"generated_length": ops.mean(lengths)}
        if accepted is not None:
            count = ops.sum(ops.cast(accepted, "float32"))
            total = ops.maximum(ops.sum(lengths), 1.0)
            statistics["acceptance"] = count / total
        return statistics

    def draw_uniforms(self, batch_size, replica=0, replicas=1):
        """Random numbers for one call, from the rollout's own seed.

        Args:
            batch_size: Number of prompts of this replica.
            replica: Its index.
            replicas: How many share the batch: each takes its rows of the same draw.
        """
        shape = self.max_length, batch_size * replicas, 2
        uniforms = keras.random.uniform(
            shape, dtype="float32", seed=self.seed_generator
        )
        rows = ops.arange(batch_size) + replica * batch_size
        # Those of position 0 are the batch's, the same for all.
        return ops.concatenate(
            [
                ops.take(uniforms[:1], ops.zeros_like(rows), axis=1),
                ops.take(uniforms[1:], rows, axis=1),
            ]
        )

    def draw(self, role, logits, uniforms):
        """Draws tokens as the student or the teacher does.

        Args:
            role: `"student"` or `"teacher"`.
            logits: `(batch, ..., vocabulary)`.
            uniforms: `(batch, ..., 2)`.
        """
        temperature = self.hyperparameter(f"{role}_temperature")
        uniforms = uniforms[..., 0 if role == "student" else 1]
        return sampling.draw_tokens(logits, uniforms, temperature, self.top_p)

    def split_responses(self, batch):
        """A batch's prompts and responses apart: see `generate`."""
        token_ids = ops.cast(batch["token_ids"], "int32")
        length = token_ids.shape[1]
        if length is not None and length > self.max_length:
            raise ValueError(
                f"`{type(self).__name__}`: a batch of prompts has {length} positions, "
                f"and `max_length` is {self.max_length}."
            )
        mask = ops.cast(ops.cast(batch["padding_mask"], "bool"), "int32")
        token_ids, mask = map(self._pad, (token_ids, mask))
        if "response_mask" in batch:
            responses = ops.cast(ops.cast(batch["response_mask"], "bool"), "int32")
            responses = self._pad(responses) * mask
        else:
            start = 1 if self.uses_data else self.max_length
            positions = ops.arange(self.max_length)
            responses = ops.cast(positions >= start, "int32")[None] * mask
        is_response = ops.cast(responses, "bool")
        is_prompt = ops.cast(mask - responses, "bool")
        return {
            "token_ids": ops.where(is_prompt, token_ids, 0),
            "padding_mask": is_prompt,
            "responses": ops.where(is_response, token_ids, 0),
            "response_mask": is_response,
        }

    def _pad(self, values):
        """`(batch, max_length)`, filled with 0; TensorFlow may not know the length."""
        values = ops.pad(values, ((0, 0), (0, self.max_length)))[:, : self.max_length]
        return ops.reshape(values, (-1, self.max_length))

    def find_generated(self, token_ids, prompts):
        """Which tokens follow a prompt, up to the first stop token, itself included."""
        is_prompt = prompts["padding_mask"]
        stops = ops.cast(self._is_stop(token_ids, is_prompt), "int32")
        is_open = ops.cumsum(stops, axis=1) - stops == 0
        return ops.logical_and(is_open, ops.logical_not(is_prompt))

    def has_stopped(self, token_ids, prompts, index):
        """Of each sequence, whether it has a stop token before position `index`."""
        is_stop = self._is_stop(token_ids, prompts["padding_mask"])
        is_before = ops.arange(self.max_length) < index
        return ops.any(ops.logical_and(is_stop, is_before[None]), axis=1)

    def is_unfinished(self, token_ids, prompts, index):
        """Whether some sequence has tokens to come from position `index` on."""
        stopped = self.has_stopped(token_ids, prompts, index)
        is_open = ops.logical_not(ops.all(stopped))
        return ops.logical_and(index < self.max_length, is_open)

    def _is_stop(self, token_ids, is_prompt):
        is_stop = ops.zeros_like(is_prompt)
        for token in self.stop_token_ids:
            is_stop = ops.logical_or(is_stop, token_ids == token)
        return ops.logical_and(is_stop, ops.logical_not(is_prompt))


def _vocabulary_size(model):
    """How many tokens a model has logits for; `None` where it does not announce it."""
    shape: Any = getattr(model, "output_shape", None)
    return shape[-1] if isinstance(shape, tuple) and len(shape) == 3 else None


def find_shortest_prompt(prompts):
    """The length of the shortest prompt, an integer tensor."""
    lengths = ops.sum(ops.cast(prompts["padding_mask"], "int32"), axis=1)
    # A model's first token is given.
    return ops.maximum(ops.min(lengths), 1)
