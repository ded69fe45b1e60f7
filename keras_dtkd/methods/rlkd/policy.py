"""A temperature for each sample, chosen by reinforcement learning (RLKD)."""

import numbers

import keras
import numpy as np
from keras import ops

from keras_dtkd.core.arguments import check_choice, check_in_range, check_positive_int
from keras_dtkd.core.issue import report_issues
from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.methods.rlkd.ppo import PPO, SIGMA_RANGE, STATE_DIM
from keras_dtkd.methods.rlkd.reward_callback import RewardCallback
from keras_dtkd.methods.rlkd.rollout_buffer import RolloutBuffer
from keras_dtkd.methods.rlkd.validation import check_policy
from keras_dtkd.temperatures.base import Temperature, TemperaturePair
from keras_dtkd.validation.data import check_arrays

MODES = ("learn", "frozen", "shuffled", "constant")


@keras.saving.register_keras_serializable("keras_dtkd")
class Policy(Temperature):
    """Samples each sample's temperature from a Gaussian policy, trained by PPO.

    A sample's state is the teacher's top probability and its margin over the second,
    and the same of the student, at temperature 1. In a training step the policy samples
    an action `a ~ N(μ(state), σ)`, and the sample's temperature is
    `min_temperature + (max_temperature − min_temperature) · sigmoid(a)`, the same for
    teacher and student. Outside of `fit`, and in its validation, `a` is the mean.

    The reward of a weight update is the decrease of the student's cross-entropy on
    samples that are held out of training. `Distiller.fit` measures it without further
    code: one more forward pass of the student over `reward_samples` samples in each
    step. A reward model distributes it over the samples of the batch. No gradient of
    the distillation loss reaches the policy or passes through the temperature.
    docs/rlkd.md has the details and the differences from the authors' code.

    Args:
        min_temperature: Lower bound of the temperatures. Positive.
        max_temperature: Upper bound. Above `min_temperature`.
        sigma: Initial σ, between 0.05 and 2; it is learned. μ starts at 0, midway
            between the bounds.
        holdout: Data that rewards are measured on: inputs and labels, `(x, y)`, or a
            fraction of the arrays passed to `fit`, drawn at random (except the samples
            of its `validation_split`). The student is not trained on these samples.
            Data that is not arrays needs `(x, y)`.
        reward_samples: Number of held-out samples per reward, drawn anew for each
            rollout.
        reward_every: Number of weight updates per reward, a divisor of `rollout`. With
            momentum, an update takes effect over several steps: about
            `1 / (1 − momentum)` is a good choice: 8 for a momentum of 0.9.
        rollout: Number of weight updates between two updates of the policy. An epoch is
            divided into rollouts of about that length.
        epochs: Steps of the policy's and the value baseline's optimizer per update of
            the policy. The reward model takes five times as many.
        clip: ε of the clipped objective.
        learning_rate: Of the policy's Adam. Value baseline and reward model use twice
            that.
        hidden: Units of the hidden layer of each network.
        capacity: Maximum number of samples (of sequences, positions) per batch.
        mode: `"learn"`; or without training: `"frozen"` uses the mean action;
            `"shuffled"` assigns the temperatures of a batch to its samples at random;
            `"constant"` gives all samples the mean temperature of the last rollout.
        seed: Seed of the actions, and of the networks' hidden layers.

    Call arguments:
        student_logits: `(..., classes)`.
        teacher_logits: `(..., classes)`.
        sample_weight: Samples of weight 0 are excluded from updates of the policy.

    Returns:
        `TemperaturePair` of T, T and T², float32, of shapes `(..., 1)`, `(..., 1)` and
        `(...)`.

    Raises:
        ValueError: A number out of its range, an unknown `mode`, an invalid `holdout`.
            In `fit`, before the first step: rewards cannot be measured (no labels, no
            samples to hold out, several devices, `steps_per_execution` above 1, ...), a
            batch above `capacity`, a policy shared by several losses.

    Reference:
        Zhang et al., "Instance Temperature Knowledge Distillation", arXiv 2407.00115.
        PPO: Schulman et al., arXiv 1707.06347, equation 7.

    Example:

    >>> Distiller(teacher, student, KD(temperature=Policy())).fit(x, y)
    """

    def __init__(
        self,
        min_temperature=1.0,
        max_temperature=10.0,
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
        for name, value, *bounds in (
            ("min_temperature", min_temperature, 0.0),
            ("max_temperature", max_temperature, min_temperature),
            ("sigma", sigma, *SIGMA_RANGE),
            ("clip", clip, 0.0, 1.0),
            ("learning_rate", learning_rate, 0.0),
        ):
            setattr(self, name, check_in_range("Policy", name, value, *bounds))
        for name, value in (
            ("reward_samples", reward_samples),
            ("reward_every", reward_every),
            ("rollout", rollout),
            ("epochs", epochs),
            ("hidden", hidden),
            ("capacity", capacity),
        ):
            setattr(self, name, check_positive_int("Policy", name, value))
        self._mode = check_choice("Policy", "mode", mode, MODES)
        self.seed = seed
        if rollout % reward_every:
            raise ValueError(
                "`Policy`: `reward_every` must divide `rollout`. Received: "
                f"reward_every={reward_every}, rollout={rollout}."
            )
        self.holdout = holdout
        self._seed_generator = keras.random.SeedGenerator(seed)
        self._ppo = PPO(hidden, sigma, learning_rate, clip, epochs, seed)
        state_vector = self._ppo.state_vector
        self._ppo_state = self._add_state("ppo_state", state_vector.shape, state_vector)
        # A copy for the training step: JAX passes a step no other model's weights.
        self._policy_weights = [
            self._add_state(f"policy_{i}", value.shape, value)
            for i, value in enumerate(self._ppo.actor.get_weights())
        ]
        midpoint = 0.5 * (min_temperature + max_temperature)
        self._mean_temperature = self._add_state("mean_temperature", (), midpoint)
        self._num_policy_updates = self._add_state("num_policy_updates", (), 0.0)
        self.rollout_buffer = RolloutBuffer(reward_every, capacity, STATE_DIM + 1)
        self.built = True

    def _add_state(self, name, shape, value):
        variable = self.add_weight(
            shape=shape, initializer="zeros", trainable=False, name=name
        )
        variable.assign(np.broadcast_to(np.asarray(value, "float32"), shape))
        return variable

    @property
    def holdout(self):
        """A share, or inputs and labels. To be set again after loading, if these."""
        return self.__dict__["_holdout"]

    @holdout.setter
    def holdout(self, value):
        pair = isinstance(value, list | tuple) and len(value) == 2
        if pair and value[1] is not None:
            x, y = value
            report_issues(check_arrays(x, y, "held-out ", "Policy"))
        elif isinstance(value, numbers.Real):
            check_in_range("Policy", "holdout", value, 0.0, 1.0)
        elif value is not None:
            raise ValueError(
                f"`Policy`: `holdout` is a {type(value).__name__}. Give "
                "`holdout=(x, y)`, inputs and labels, or a share of the data between "
                "0 and 1."
            )
        # No list that Keras would look for layers in.
        self.__dict__["_holdout"] = value

    def __setattr__(self, name, value):
        # Keras would hand the setter tracked dicts and lists, which no model takes for
        # inputs.
        if name == "holdout":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def hold_out(self, data):
        """The share of the training data that is held out; `None` for `(x, y)`."""
        return self.holdout if isinstance(self.holdout, numbers.Real) else None

    def issues(self, context):
        """Runs in which rewards cannot be measured, see `FitHooks`."""
        return check_policy(self, context)

    def training_callbacks(self, distiller):
        """The callback that measures the rewards."""
        losses = distiller.distillation_losses
        loss_names = {
            layer: name
            for name, loss in losses.items()
            for layer in iter_layers(loss)
            if isinstance(layer, Policy)
        }
        loss_name, is_first = loss_names[self], next(iter(loss_names)) is self
        share = self.hold_out(None)
        x, y = self.holdout if share is None else distiller.run_context.held_out
        spec = distiller.output_specs.get(losses[loss_name].distilled_output).student
        log_name = "reward" if is_first else f"{loss_name}_reward"
        return [RewardCallback(self, spec, x, spec.select(y), log_name)]

    def get_config(self):
        """The arguments that make this policy again; `None` for held-out `(x, y)`."""
        return {**super().get_config(), "holdout": self.hold_out(None)}

    @property
    def is_sampling(self):
        """Whether it samples its actions during training."""
        return self.mode in ("learn", "shuffled")

    @property
    def mode(self):
        """`"learn"`, `"frozen"`, `"shuffled"` or `"constant"`."""
        return self._mode

    @property
    def mean_temperature(self):
        """Mean temperature of the last rollout, a number, outside of a step."""
        return float(ops.convert_to_numpy(self._mean_temperature))

    @property
    def num_policy_updates(self):
        """Number of rollouts that it was trained on, outside of a step."""
        return int(ops.convert_to_numpy(self._num_policy_updates))

    def call(self, student_logits, teacher_logits, sample_weight=None):
        features = map(_confidence_features, (teacher_logits, student_logits))
        states = ops.stop_gradient(ops.concatenate(list(features), axis=-1))
        mean, sigma = self._policy_forward(states)
        noise = keras.random.normal(ops.shape(mean), seed=self._seed_generator)
        action = mean + self.rollout_buffer.is_sampling * sigma * noise
        state_and_action = ops.concatenate([states, action], axis=-1)
        self.rollout_buffer.add(state_and_action, sample_weight)
        return TemperaturePair.equal(ops.stop_gradient(self.temperature_of(action)))

    def temperature_of(self, action):
        """The temperature of an action, any real number or a tensor of them."""
        low, high = self.min_temperature, self.max_temperature
        return low + (high - low) * ops.sigmoid(action)

    def _policy_forward(self, states):
        """μ, `(..., 1)`, and σ."""
        kernel_1, bias_1, kernel_2, bias_2, log_sigma = self._policy_weights
        units = ops.tanh(ops.matmul(states, kernel_1) + bias_1)
        mean = ops.matmul(units, kernel_2) + bias_2
        sigma = ops.exp(log_sigma)
        if self.mode == "shuffled":
            shuffled = ops.reshape(mean, (-1, 1))
            shuffled = keras.random.shuffle(shuffled, axis=0, seed=self._seed_generator)
            mean = ops.reshape(shuffled, ops.shape(mean))
        if self.mode in ("frozen", "constant"):
            sigma = 0.0 * sigma
        if self.mode == "constant":
            low, high = self.min_temperature, self.max_temperature
            fraction = (self._mean_temperature - low) / (high - low)
            mean = 0.0 * mean + ops.log(fraction) - ops.log1p(-fraction)
        return mean, sigma

    def update(self, groups, rewards):
        """Trains the policy on one rollout, between steps.

        `groups` are results of `rollout_buffer.pop`, one for each measured reward.
        """
        actions = np.concatenate([group[:, STATE_DIM] for group in groups])
        self._mean_temperature.assign(ops.mean(self.temperature_of(actions)))
        self._ppo.state_vector = ops.convert_to_numpy(self._ppo_state)
        self._ppo.update(groups, rewards)
        self._ppo_state.assign(self._ppo.state_vector)
        weights = self._ppo.actor.get_weights()
        for variable, value in zip(self._policy_weights, weights, strict=True):
            variable.assign(value)
        self._num_policy_updates.assign(self._num_policy_updates + 1.0)

    def copy_with_mode(self, mode):
        """A `Policy` with the same weights and another `mode`, see the class."""
        config = {**self.get_config(), "mode": mode, "holdout": self.holdout}
        copy = type(self)(**config)
        copy.set_weights(self.get_weights())
        return copy


def _confidence_features(logits):
    """Top probability and its margin over the second, `(..., 2)`."""
    probs = ops.exp(soft_log_probs(logits))
    top = ops.top_k(probs, 2)[0]
    return ops.stack([top[..., 0], top[..., 0] - top[..., 1]], axis=-1)
