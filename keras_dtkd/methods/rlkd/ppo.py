"""Proximal policy optimization of one Gaussian action per sample."""

import math

import keras
import numpy as np
from keras import ops

from keras_dtkd.methods.rlkd.reward_model import (
    REWARD_INPUT_DIM,
    RewardModel,
    mlp,
    standardize,
)

# State of a sample: top probability and margin of the teacher, and of the student.
STATE_DIM = REWARD_INPUT_DIM - 1
# A policy that no longer explores cannot learn.
SIGMA_RANGE = (0.05, 2.0)


def log_prob(action, mean, log_sigma):
    """`log N(a; μ, σ)`: the density of the action, not of the temperature."""
    z = (action - mean) * ops.exp(-log_sigma)
    return -0.5 * z * z - log_sigma - 0.5 * math.log(2.0 * math.pi)


def clipped_surrogate_loss(clip):
    """PPO's objective, negated: `−min(ρA, clip(ρ, 1 − ε, 1 + ε)A)` for each sample.

    A Keras loss of `y_true`, `(samples, 3)`: action, its log-density when it was
    sampled, advantage; and of `y_pred`, `(samples, 2)`: current μ and log σ.
    """

    def loss(y_true, y_pred):
        action, old_log_prob, advantage = (y_true[:, i] for i in range(3))
        new_log_prob = log_prob(action, y_pred[:, 0], y_pred[:, 1])
        # Beyond these bounds a ratio is clipped anyway, or overflows.
        ratio = ops.exp(ops.clip(new_log_prob - old_log_prob, -20.0, 20.0))
        clipped_ratio = ops.clip(ratio, 1.0 - clip, 1.0 + clip)
        return -ops.minimum(ratio * advantage, clipped_ratio * advantage)

    return loss


class _GaussianHead(keras.layers.Layer):
    """Appends the policy's log σ, the same for all states, to μ: `(samples, 2)`."""

    def __init__(self, sigma):
        super().__init__(name="sigma", dtype="float32")
        low, high = (math.log(bound) for bound in SIGMA_RANGE)
        self.log_sigma = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(math.log(sigma)),
            constraint=lambda value: ops.clip(value, low, high),
            name="log_sigma",
        )
        self.built = True

    def call(self, mean):
        log_sigma = ops.zeros_like(mean) + self.log_sigma
        return ops.concatenate([mean, log_sigma], axis=-1)


class PPO:
    """Policy, value baseline and reward model, with an Adam each.

    They are not part of any other model. The arguments are those of `Policy`.
    """

    def __init__(self, hidden, sigma, learning_rate, clip, epochs, seed):
        self.epochs = epochs
        self.actor = mlp(STATE_DIM, hidden, seed, _GaussianHead(sigma))
        self.critic = mlp(STATE_DIM, hidden, seed + 2)
        for model, loss, rate in (
            (self.actor, clipped_surrogate_loss(clip), learning_rate),
            (self.critic, "mse", 2.0 * learning_rate),
        ):
            model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0), loss)
            model.optimizer.build(model.trainable_variables)
        self.reward_model = RewardModel(hidden, 2.0 * learning_rate, seed + 4)

    def _variables(self):
        for model in (self.actor, self.critic, self.reward_model):
            yield from model.trainable_variables
            yield from model.optimizer.variables

    @property
    def state_vector(self):
        """The whole state, weights and optimizer states: float32, `(n,)`."""
        values = [ops.convert_to_numpy(v.value) for v in self._variables()]
        return np.concatenate([np.ravel(v).astype("float32") for v in values])

    @state_vector.setter
    def state_vector(self, array):
        start = 0
        for variable in self._variables():
            stop = start + math.prod(variable.shape)
            value = np.reshape(array[start:stop], variable.shape)
            variable.assign(value.astype(variable.dtype))
            start = stop

    def update(self, groups, rewards):
        """Trains the three networks on one rollout.

        Every sample is an episode of one step: its temperature changes the weight
        update it is used in, and the reward is measured right after that. Each reward
        has a group, `(samples, STATE_DIM + 1)`: states and actions of these samples.
        """
        padded = _pad_groups(groups)
        rewards = np.pad(np.asarray(rewards), (0, len(padded) - len(rewards)))
        inputs = padded.copy()
        inputs[..., STATE_DIM] = _numpy(ops.sigmoid(inputs[..., STATE_DIM]))
        self.reward_model.train_on_rewards(inputs, rewards, 5 * self.epochs)
        sample_rewards = self.reward_model.per_sample_rewards(inputs, rewards)
        samples = padded.reshape(-1, REWARD_INPUT_DIM + 1)
        states, actions = samples[:, :STATE_DIM], samples[:, STATE_DIM]
        is_valid = samples[:, REWARD_INPUT_DIM] > 0
        weights = (is_valid * len(is_valid) / is_valid.sum()).astype("float32")

        value = _numpy(self.critic(ops.convert_to_tensor(states)))[:, 0]
        returns = standardize(sample_rewards.reshape(-1), is_valid)[0]
        advantage = standardize(returns - value, is_valid)[0]
        for _ in range(self.epochs):
            target = returns[:, None].astype("float32")
            self.critic.train_on_batch(states, target, sample_weight=weights)

        mean, log_sigma = _numpy(self.actor(ops.convert_to_tensor(states))).T
        tensors = map(ops.convert_to_tensor, (actions, mean, log_sigma))
        old_log_prob = _numpy(log_prob(*tensors))
        target = np.stack([actions, old_log_prob, advantage], -1).astype("float32")
        for _ in range(self.epochs):
            self.actor.train_on_batch(states, target, sample_weight=weights)


def _pad_groups(groups):
    """Groups of different sizes as an array `(groups, samples, REWARD_INPUT_DIM + 1)`.

    The last number is 1 for a sample and 0 for padding. The sizes are powers of two, to
    limit the number of compilations.
    """
    longest = max(len(group) for group in groups)
    sizes = [2 ** math.ceil(math.log2(size)) for size in (len(groups), longest)]
    padded = np.zeros((*sizes, REWARD_INPUT_DIM + 1), "float32")
    for rows, group in zip(padded, groups, strict=False):
        rows[: len(group), :REWARD_INPUT_DIM] = group
        rows[: len(group), REWARD_INPUT_DIM] = 1.0
    return padded


def _numpy(tensor):
    return ops.convert_to_numpy(tensor)
