"""Proximal policy optimization of one Gaussian action a sample."""

import math

import keras
import numpy as np
from keras import ops

from keras_dtkd.methods.rlkd.reward_model import SEEN, RewardModel, mlp

# Of a sample: top probability and margin of the teacher, and of the student.
STATE_DIM = SEEN - 1
# A policy that has stopped to try things learns nothing any more.
SIGMA_RANGE = (0.05, 2.0)


def log_prob(action, mean, log_sigma):
    """`log N(a; μ, σ)`, of the action itself and not of the temperature it becomes.

    Args:
        action: Any shape.
        mean: μ, likewise.
        log_sigma: log σ, likewise.

    Returns:
        The logarithm of the density, of that shape.
    """
    z = (action - mean) * ops.exp(-log_sigma)
    return -0.5 * z * z - log_sigma - 0.5 * math.log(2.0 * math.pi)


def clipped_surrogate_loss(clip):
    """PPO's objective, negated, as a Keras loss.

    Args:
        clip: ε. How far the ratio of probabilities counts from 1.

    Returns:
        A function of `y_true`, `(rows, 3)`: action, its logarithmic probability when
        it was drawn, advantage; and of `y_pred`, `(rows, 2)`: μ and log σ now.
        `−min(ρA, clip(ρ, 1 − ε, 1 + ε)A)` for each row.
    """

    def loss(y_true, y_pred):
        action, before, advantage = (y_true[:, i] for i in range(3))
        now = log_prob(action, y_pred[:, 0], y_pred[:, 1])
        # Beyond that a ratio is clipped anyway, or overflows.
        ratio = ops.exp(ops.clip(now - before, -20.0, 20.0))
        near = ops.clip(ratio, 1.0 - clip, 1.0 + clip)
        return -ops.minimum(ratio * advantage, near * advantage)

    return loss


class _GaussianHead(keras.layers.Layer):
    """Puts the policy's log σ, one for all states, beside μ: `(rows, 2)`."""

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

    They are no part of any other model. All they know is `memory`, one array.

    Args:
        hidden: Units of the one hidden layer of each network.
        sigma: σ at the start.
        learning_rate: Of the policy; the two others learn at twice that.
        clip: ε of the clipped objective.
        epochs: Steps of each optimizer in a `learn`, on the whole rollout.
        seed: Of the three first layers.
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
        self.rewards = RewardModel(hidden, 2.0 * learning_rate, seed + 4)

    def _variables(self):
        for model in (self.actor, self.critic, self.rewards.model):
            yield from model.trainable_variables
            yield from model.optimizer.variables

    @property
    def memory(self):
        """All that is learned, and the optimizers' states: float32, `(n,)`."""
        values = [ops.convert_to_numpy(v.value) for v in self._variables()]
        return np.concatenate([np.ravel(v).astype("float32") for v in values])

    @memory.setter
    def memory(self, array):
        start = 0
        for variable in self._variables():
            stop = start + math.prod(variable.shape)
            value = np.reshape(array[start:stop], variable.shape)
            variable.assign(value.astype(variable.dtype))
            start = stop

    def learn(self, groups, rewards):
        """Learns from one rollout.

        Every sample is an episode of its own, of one step: its temperature changes the
        update it is used in, and the reward is measured right after that.

        Args:
            groups: For each reward an array `(rows, STATE + 1)`: the states of the
                samples whose temperatures brought it about, and their actions.
            rewards: Numbers, one a group.
        """
        padded = _pad_groups(groups)
        rewards = np.pad(np.asarray(rewards), (0, len(padded) - len(rewards)))
        seen = padded.copy()
        seen[..., STATE_DIM] = _sigmoid(seen[..., STATE_DIM])
        self.rewards.fit(seen, rewards, 5 * self.epochs)
        shares = self.rewards.decompose(seen, rewards).reshape(-1)
        rows = padded.reshape(-1, SEEN + 1)
        states, actions, there = (
            rows[:, :STATE_DIM],
            rows[:, STATE_DIM],
            rows[:, SEEN] > 0,
        )
        weights = (there * len(there) / there.sum()).astype("float32")

        value = _numpy(self.critic(ops.convert_to_tensor(states)))[:, 0]
        returns = _standardize(shares, there)
        advantage = _standardize(returns - value, there)
        for _ in range(self.epochs):
            target = returns[:, None].astype("float32")
            self.critic.train_on_batch(states, target, sample_weight=weights)

        mean, log_sigma = _numpy(self.actor(ops.convert_to_tensor(states))).T
        drawn = map(ops.convert_to_tensor, (actions, mean, log_sigma))
        before = _numpy(log_prob(*drawn))
        target = np.stack([actions, before, advantage], -1).astype("float32")
        for _ in range(self.epochs):
            self.actor.train_on_batch(states, target, sample_weight=weights)


def _pad_groups(groups):
    """Groups of different sizes as one array, `(groups, rows, SEEN + 1)`.

    Its sizes are powers of two: each other size would be compiled again.
    """
    most = max(len(group) for group in groups)
    sizes = [2 ** math.ceil(math.log2(size)) for size in (len(groups), most)]
    out = np.zeros((*sizes, SEEN + 1), "float32")
    for place, group in zip(out, groups, strict=False):
        place[: len(group), :SEEN] = group
        place[: len(group), SEEN] = 1.0
    return out


def _standardize(values, there):
    """Mean 0 and deviation 1 over the samples that are there."""
    deviation = values[there].std()
    return (values - values[there].mean()) / (deviation if deviation > 0 else 1.0)


def _sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def _numpy(tensor):
    return ops.convert_to_numpy(tensor)
