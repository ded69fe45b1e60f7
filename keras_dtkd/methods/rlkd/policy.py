"""A temperature for each sample, chosen by a policy that is paid for it (RLKD)."""

import math
from functools import partial

import keras
import numpy as np
from keras import ops

from keras_dtkd.core.arguments import check_in_range, check_positive_int
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.methods.rlkd.holdout import HoldoutTemperature
from keras_dtkd.methods.rlkd.ppo import PPO, SIGMA_RANGE, STATE_DIM
from keras_dtkd.methods.rlkd.rollout_buffer import RolloutBuffer
from keras_dtkd.temperatures.base import TemperaturePair

MODES = ("learn", "frozen", "random", "constant")


@keras.saving.register_keras_serializable("keras_dtkd")
class Policy(HoldoutTemperature):
    """Draws each sample's temperature from a Gaussian policy, which PPO trains.

    A sample's state is the teacher's top probability and its margin over the second,
    and the same of the student, at temperature 1. In a training step the policy draws
    `a ~ N(μ(state), σ)`, and the sample's temperature is
    `minimum + (maximum − minimum) · sigmoid(a)`, for teacher and student alike. Outside
    of `fit`, and in its validation, `a` is the mean.

    The reward of an update is by how much it lowers the student's cross-entropy on
    samples that are held out of training. `Distiller.fit` measures it by itself: one
    more pass of the student over `reward_samples` samples in each step. A reward model
    shares it out over the samples of the batch; policy, value baseline and reward model
    are Keras models with an Adam each. No gradient of the distillation loss reaches
    the policy, and none passes through the temperature. docs/rlkd.md has the details,
    and what is mended of the authors' code.

    Args:
        minimum: Lower bound of the temperatures. Positive.
        maximum: Upper bound. Above `minimum`.
        sigma: σ at the start, between 0.05 and 2; it is learned. μ starts at 0, midway
            between the bounds.
        holdout: What rewards are measured on: inputs and labels, `(x, y)`, or a share
            of the arrays that `fit` is given, drawn from them (but for what its
            `validation_split` takes). The student is not trained on these. Data that is
            no arrays needs `(x, y)`.
        reward_samples: So many of them measure a reward, drawn anew for each rollout.
        reward_every: Updates that share one reward. With momentum, an update shows
            only later: `1 / (1 − momentum)` is a good choice. A divisor of `rollout`.
        rollout: Updates between two lessons of the policy. An epoch is divided into
            rollouts of about that length, and none goes on in the next.
        epochs: Steps of the policy's and the value's optimizer in a lesson, each on a
            whole rollout. The reward model takes five times as many.
        clip: ε of the clipped objective.
        learning_rate: Of the policy's Adam. Value and reward model learn at twice that.
        hidden: Units of the hidden layer of each network.
        capacity: Most samples (of sequences, positions) of a batch.
        mode: `"learn"`; or one of the others, which learn nothing: `"frozen"` acts by
            the mean always; `"random"` deals the temperatures of a batch to its samples
            at random (of the same distribution, whatever the state); `"constant"` gives
            all samples the mean of the last rollout's temperatures.
        seed: Of the draws, and of the networks' first layers.

    Call arguments:
        student_logits: `(..., classes)`.
        teacher_logits: `(..., classes)`.
        sample_weight: A row of weight 0 takes no part in the policy's lessons.

    Returns:
        `Temperatures` T, T and T², float32, of shapes `(..., 1)`, `(..., 1)`, `(...)`.

    Raises:
        ValueError: A number out of its range, an unknown `mode`. In `fit`, before the
            first step: no labels, no way to hold samples out, next to nothing left to
            train on, held-out samples that do not fit the models, several devices,
            `steps_per_execution` above 1, gradients accumulated over more steps than a
            reward, a batch above `capacity`, a policy of several losses.

    Reference:
        Zhang et al., "Instance Temperature Knowledge Distillation", arXiv 2407.00115.
        PPO: Schulman et al., arXiv 1707.06347, equation 7.

    Example:

    >>> Distiller(teacher, student, KD(temperature=Policy())).fit(x, y)
    """

    def __init__(
        self,
        minimum=1.0,
        maximum=10.0,
        sigma=1.0,
        holdout=0.1,
        reward_samples=128,
        reward_every=1,
        rollout=32,
        epochs=10,
        clip=0.2,
        learning_rate=0.005,
        hidden=64,
        capacity=1024,
        mode="learn",
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        number, whole = (
            partial(check, "Policy") for check in (check_in_range, check_positive_int)
        )
        self._config = {
            "minimum": number("minimum", minimum, 0.0, math.inf),
            "maximum": number("maximum", maximum, minimum, math.inf),
            "sigma": number("sigma", sigma, *SIGMA_RANGE),
            "reward_samples": whole("reward_samples", reward_samples),
            "reward_every": whole("reward_every", reward_every),
            "rollout": whole("rollout", rollout),
            "epochs": whole("epochs", epochs),
            "clip": number("clip", clip, 0.0, 1.0),
            "learning_rate": number("learning_rate", learning_rate, 0.0, math.inf),
            "hidden": whole("hidden", hidden),
            "capacity": whole("capacity", capacity),
            "mode": mode,
            "seed": seed,
        }
        if rollout % reward_every:
            raise ValueError(
                "`Policy`: `reward_every` must divide `rollout`. Received: "
                f"reward_every={reward_every}, rollout={rollout}."
            )
        if mode not in MODES:
            raise ValueError(
                f"`Policy`: unknown `mode`. Received: mode={mode!r}. Known: "
                f"{', '.join(map(repr, MODES))}."
            )
        self.holdout = holdout
        self._draws = keras.random.SeedGenerator(seed)
        self._learner = PPO(hidden, sigma, learning_rate, clip, epochs, seed)
        memory = self._learner.memory
        self._memory = self._state("memory", memory.shape, memory)
        # What acts in a step: a copy, for JAX hands a step no other model's weights.
        self._actor = [
            self._state(f"actor_{i}", value.shape, value)
            for i, value in enumerate(self._learner.actor.get_weights())
        ]
        middle = 0.5 * (minimum + maximum)
        self._mean = self._state("mean_temperature", (), middle)
        self._lessons = self._state("lessons", (), 0.0)
        self.transitions = RolloutBuffer(reward_every, capacity, STATE_DIM + 1)
        self.built = True

    def _state(self, name, shape, value):
        variable = self.add_weight(
            shape=shape, initializer="zeros", trainable=False, name=name
        )
        variable.assign(np.broadcast_to(np.asarray(value, "float32"), shape))
        return variable

    @property
    def explores(self):
        """Whether it draws its actions while it trains."""
        return self.mode in ("learn", "random")

    @property
    def mode(self):
        """`"learn"`, `"frozen"`, `"random"` or `"constant"`."""
        return self._config["mode"]

    @property
    def mean_temperature(self):
        """Mean temperature of the last rollout, a number, outside of a step."""
        return float(ops.convert_to_numpy(self._mean))

    @property
    def lessons(self):
        """How many rollouts it has learned from, outside of a step."""
        return int(ops.convert_to_numpy(self._lessons))

    def call(self, student_logits, teacher_logits, sample_weight=None):
        """T, T and T²."""
        seen = [_state_of(logits) for logits in (teacher_logits, student_logits)]
        states = ops.stop_gradient(ops.concatenate(seen, axis=-1))
        mean, sigma = self._act(states)
        noise = keras.random.normal(ops.shape(mean), seed=self._draws)
        action = mean + self.transitions.exploring * sigma * noise
        self.transitions.keep(ops.concatenate([states, action], axis=-1), sample_weight)
        temperature = ops.stop_gradient(self.temperature_of(action))
        row = temperature[..., 0]
        return TemperaturePair(temperature, temperature, row * row)

    def temperature_of(self, action):
        """The temperature that an action stands for.

        Args:
            action: Any real number, or a tensor of them.

        Returns:
            `minimum + (maximum − minimum) · sigmoid(action)`.
        """
        low, high = self._config["minimum"], self._config["maximum"]
        return low + (high - low) * ops.sigmoid(action)

    def _act(self, states):
        """μ, `(..., 1)`, and σ."""
        kernel_1, bias_1, kernel_2, bias_2, log_sigma = self._actor
        units = ops.tanh(ops.matmul(states, kernel_1) + bias_1)
        mean = ops.matmul(units, kernel_2) + bias_2
        sigma = ops.exp(log_sigma)
        if self.mode == "random":
            dealt = ops.reshape(mean, (-1, 1))
            dealt = keras.random.shuffle(dealt, axis=0, seed=self._draws)
            mean = ops.reshape(dealt, ops.shape(mean))
        if self.mode in ("frozen", "constant"):
            sigma = 0.0 * sigma
        if self.mode == "constant":
            low, high = self._config["minimum"], self._config["maximum"]
            share = (self._mean - low) / (high - low)
            mean = 0.0 * mean + ops.log(share) - ops.log1p(-share)
        return mean, sigma

    # Between steps: for the callback that measures rewards.

    def learn(self, groups, rewards):
        """One lesson, from one rollout.

        Args:
            groups: What `transitions.take` returned, once for each reward.
            rewards: What was measured, a number for each.
        """
        actions = np.concatenate([group[:, STATE_DIM] for group in groups])
        self._mean.assign(ops.mean(self.temperature_of(actions)))
        self._learner.memory = ops.convert_to_numpy(self._memory)
        self._learner.learn(groups, rewards)
        self._memory.assign(self._learner.memory)
        for own, value in zip(
            self._actor, self._learner.actor.get_weights(), strict=True
        ):
            own.assign(value)
        self._lessons.assign(self._lessons + 1.0)

    def with_mode(self, mode):
        """A copy in another mode, with all that this one has learned.

        Args:
            mode: See the class. `"random"` and `"constant"` are the controls.

        Returns:
            A `Policy`.
        """
        copy = type(self)(
            **{**self.get_config(), "mode": mode, "holdout": self.holdout}
        )
        copy.set_weights(self.get_weights())
        return copy

    def get_config(self):
        """The arguments that make this rule again. Data held out is not among them."""
        return {**super().get_config(), **self._config}


def _state_of(logits):
    """Top probability and its margin over the second, `(..., 2)`."""
    p = ops.exp(soft_log_probs(logits))
    top = ops.top_k(p, 2)[0]
    return ops.stack([top[..., 0], top[..., 0] - top[..., 1]], axis=-1)
