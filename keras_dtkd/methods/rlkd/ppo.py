"""Proximal policy optimization of one Gaussian action per sample, by a reward model."""

import math

import keras
import numpy as np
from keras import ops

# State of a sample: top probability and margin of the teacher, and of the student.
STATE_DIM = 4
# The reward model also takes the squashed action.
REWARD_INPUT_DIM = STATE_DIM + 1
# A policy that no longer explores cannot learn.
SIGMA_RANGE = (0.05, 2.0)


def mlp(input_dim, hidden, seed, *last_layers):
    """A `keras.Sequential` of two dense layers and further ones, always in float32.

    Half precision would add a loss scale, and with it more optimizer variables: a
    policy trained under one dtype policy would not load under another.
    """
    uniform = keras.initializers.RandomUniform
    model = keras.Sequential(
        [
            keras.Input((input_dim,), dtype="float32"),
            # Its units distinguish probabilities 0.1 or 0.2 apart.
            keras.layers.Dense(
                hidden,
                activation="tanh",
                kernel_initializer=uniform(-6.0, 6.0, seed),
                bias_initializer=uniform(-6.0, 6.0, seed + 1),
                dtype="float32",
            ),
            # The same output for all samples before training.
            keras.layers.Dense(1, kernel_initializer="zeros", dtype="float32"),
            *last_layers,
        ]
    )
    model.dtype_policy = "float32"
    return model


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


class RewardModel(keras.Model):
    """Models the rewards of groups of samples as sums over the samples.

    Groups are `(groups, samples, REWARD_INPUT_DIM + 1)`. The last number is 1 for a
    sample and 0 for padding; a group without samples is padding itself.
    """

    def __init__(self, hidden, learning_rate, seed):
        super().__init__(name="reward_model", dtype="float32")
        self.network = mlp(REWARD_INPUT_DIM, hidden, seed)
        self.built = True
        self.compile(keras.optimizers.Adam(learning_rate, global_clipnorm=1.0), "mse")
        self.optimizer.build(self.trainable_variables)

    def contributions(self, groups):
        """The summands, `(groups, samples)`."""
        is_valid = groups[..., REWARD_INPUT_DIM]
        inputs = ops.reshape(groups[..., :REWARD_INPUT_DIM], (-1, REWARD_INPUT_DIM))
        values = ops.reshape(self.network(inputs), ops.shape(is_valid))
        # With this factor the sum of N independent summands has the size of one.
        count = ops.maximum(ops.sum(is_valid, axis=-1, keepdims=True), 1.0)
        return values * is_valid / ops.sqrt(count)

    def call(self, groups):
        return ops.sum(self.contributions(groups), axis=-1)

    def train_on_rewards(self, groups, rewards, epochs):
        """Trains on the standardized rewards `(groups,)`, one step an epoch."""
        is_valid = groups[..., REWARD_INPUT_DIM].max(-1)
        target = standardize(rewards, is_valid > 0)[0].astype("float32")
        # Keras's mean includes the groups that are padding.
        weights = (is_valid * len(is_valid) / is_valid.sum()).astype("float32")
        for _ in range(epochs):
            self.train_on_batch(groups, target, sample_weight=weights)

    def per_sample_rewards(self, groups, rewards):
        """Each sample's share of its group's reward: `r_i = f_i + (R − Σ f) / N`.

        They sum to the reward. float64, `(groups, samples)`; 0 for padding.
        """
        is_valid = groups[..., REWARD_INPUT_DIM].astype("float64")
        _, scale = standardize(rewards, is_valid.max(-1) > 0)
        contributions = self.contributions(ops.convert_to_tensor(groups))
        contributions = ops.convert_to_numpy(contributions)
        contributions = scale * contributions.astype("float64")
        count = np.maximum(is_valid.sum(-1, keepdims=True), 1.0)
        residual = np.asarray(rewards)[:, None] - contributions.sum(-1, keepdims=True)
        return contributions + residual / count * is_valid


def standardize(values, is_valid):
    """Values minus their mean, over their deviation, 0 for padding; the deviation."""
    values = np.asarray(values, "float64")
    mean, scale = values[is_valid].mean(), values[is_valid].std()
    scale = scale if scale > 0 else 1.0
    return np.where(is_valid, (values - mean) / scale, 0.0), scale


class PPO:
    """Policy, value baseline and reward model, with an Adam each, see `Policy`."""

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
        values = [ops.convert_to_numpy(v) for v in self._variables()]
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

        Every sample is an episode of one step. Each reward has a group,
        `(samples, STATE_DIM + 1)`: states and actions of its samples.
        """
        padded = _pad_groups(groups)
        rewards = np.pad(np.asarray(rewards), (0, len(padded) - len(rewards)))
        inputs = padded.copy()
        squashed = ops.sigmoid(inputs[..., STATE_DIM])
        inputs[..., STATE_DIM] = ops.convert_to_numpy(squashed)
        self.reward_model.train_on_rewards(inputs, rewards, 5 * self.epochs)
        sample_rewards = self.reward_model.per_sample_rewards(inputs, rewards)
        samples = padded.reshape(-1, REWARD_INPUT_DIM + 1)
        states, actions = samples[:, :STATE_DIM], samples[:, STATE_DIM]
        is_valid = samples[:, REWARD_INPUT_DIM] > 0
        weights = (is_valid * len(is_valid) / is_valid.sum()).astype("float32")

        value = ops.convert_to_numpy(self.critic(states))[:, 0]
        returns = standardize(sample_rewards.reshape(-1), is_valid)[0]
        advantage = standardize(returns - value, is_valid)[0]
        for _ in range(self.epochs):
            target = returns[:, None].astype("float32")
            self.critic.train_on_batch(states, target, sample_weight=weights)

        mean, log_sigma = ops.convert_to_numpy(self.actor(states)).T
        tensors = map(ops.convert_to_tensor, (actions, mean, log_sigma))
        old_log_prob = ops.convert_to_numpy(log_prob(*tensors))
        target = np.stack([actions, old_log_prob, advantage], -1).astype("float32")
        for _ in range(self.epochs):
            self.actor.train_on_batch(states, target, sample_weight=weights)


def _pad_groups(groups):
    """Groups of different sizes as an array for the `RewardModel`."""
    # Powers of two limit the number of compilations.
    longest = max(len(group) for group in groups)
    sizes = [2 ** math.ceil(math.log2(size)) for size in (len(groups), longest)]
    padded = np.zeros((*sizes, REWARD_INPUT_DIM + 1), "float32")
    for rows, group in zip(padded, groups, strict=False):
        rows[: len(group), :REWARD_INPUT_DIM] = group
        rows[: len(group), REWARD_INPUT_DIM] = 1.0
    return padded
