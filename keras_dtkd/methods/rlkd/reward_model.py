"""Distributes a reward measured for many samples over these samples."""

import keras
import numpy as np
from keras import ops

# Inputs per sample: the four numbers of its state, and the squashed action.
REWARD_INPUT_DIM = 5


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
        """Each sample's share of its group's reward.

        The residual of the model is distributed equally, so that the shares of a group
        sum to the measured reward: `r_i = f_i + (R − Σ f) / N`. float64,
        `(groups, samples)`; 0 for padding.
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
