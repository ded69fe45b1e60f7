"""A reward measured for many samples at once, shared out over them."""

import keras
import numpy as np
from keras import ops

# What the model sees of a sample: four numbers of its state, and the action, squashed.
SEEN = 5


def hidden_layer(units, seed):
    """A layer whose units tell probabilities apart that differ by a tenth or two."""
    start = keras.initializers.RandomUniform
    return keras.layers.Dense(
        units,
        activation="tanh",
        kernel_initializer=start(-6.0, 6.0, seed),
        bias_initializer=start(-6.0, 6.0, seed + 1),
        dtype="float32",
    )


def mlp(seen, hidden, seed, *last):
    """Two layers in float32, whatever Keras's policy is.

    Half precision would scale the loss, and the optimizer with a scale has more
    variables: a policy trained under one policy of Keras would not load under another.

    Args:
        seen: How many numbers it sees of a sample.
        hidden: Units of the hidden layer.
        seed: Of the hidden layer.
        *last: Further layers.

    Returns:
        A `keras.Sequential`.
    """
    made = keras.Sequential(
        [
            keras.Input((seen,), dtype="float32"),
            hidden_layer(hidden, seed),
            # Before it has learned anything, all samples are the same.
            keras.layers.Dense(1, kernel_initializer="zeros", dtype="float32"),
            *last,
        ]
    )
    made.dtype_policy = "float32"
    return made


class _SumOverSamples(keras.Model):
    """Adds up what a network gives each row, `(groups, rows, SEEN + 1)` → `(groups,)`.

    The last number of a row is 1 where there is a sample and 0 where there is none.
    """

    def __init__(self, hidden, seed):
        super().__init__(name="reward_model", dtype="float32")
        self.network = mlp(SEEN, hidden, seed)
        self.built = True

    def parts(self, groups):
        """What each row adds to its group's sum, `(groups, rows)`."""
        there = groups[..., SEEN]
        rows = ops.reshape(groups[..., :SEEN], (-1, SEEN))
        values = ops.reshape(self.network(rows), ops.shape(there))
        # The sum of N independent parts is as large as one of them, whatever N is.
        count = ops.maximum(ops.sum(there, axis=-1, keepdims=True), 1.0)
        return values * there / ops.sqrt(count)

    def call(self, groups):
        """The sums."""
        return ops.sum(self.parts(groups), axis=-1)


class RewardModel:
    """Explains the rewards of groups of samples as sums over the samples.

    Args:
        hidden: Units of the hidden layer.
        learning_rate: Of its Adam.
        seed: Of its first layer.

    Attributes:
        model: The Keras model. `model.variables` and `model.optimizer.variables` are
            all that it knows.
    """

    def __init__(self, hidden, learning_rate, seed):
        self.model = _SumOverSamples(hidden, seed)
        self.model.compile(
            keras.optimizers.Adam(learning_rate, global_clipnorm=1.0), "mse"
        )
        self.model.optimizer.build(self.model.trainable_variables)

    def fit(self, groups, rewards, epochs):
        """Learns to predict the standardized rewards, by the mean of squared errors.

        Args:
            groups: `(groups, rows, SEEN + 1)`, the last number 1 for a sample and 0
                for padding. A group without a sample is padding itself.
            rewards: `(groups,)`. What was measured.
            epochs: Steps of Adam on all groups at once.
        """
        there = groups[..., SEEN].max(-1)
        target = _standardized(rewards, there > 0)[0].astype("float32")
        # Keras divides by the groups that are padding too.
        weights = (there * len(there) / there.sum()).astype("float32")
        for _ in range(epochs):
            self.model.train_on_batch(groups, target, sample_weight=weights)

    def decompose(self, groups, rewards):
        """Each sample's share of its group's reward.

        What the model does not explain is shared out equally, so that the shares of a
        group sum to what was measured: `r_i = f_i + (R − Σ f) / N`.

        Args:
            groups: As in `fit`.
            rewards: As in `fit`.

        Returns:
            float64, `(groups, rows)`; 0 for padding.
        """
        there = groups[..., SEEN].astype("float64")
        _, mean, scale = _standardized(rewards, there.max(-1) > 0)
        parts = ops.convert_to_numpy(self.model.parts(ops.convert_to_tensor(groups)))
        parts = scale * parts.astype("float64")
        count = np.maximum(there.sum(-1, keepdims=True), 1.0)
        rest = np.asarray(rewards)[:, None] - parts.sum(-1, keepdims=True)
        return parts + rest / count * there


def _standardized(rewards, there):
    """The rewards less their mean over their deviation, with both."""
    rewards = np.asarray(rewards, "float64")
    mean, scale = rewards[there].mean(), rewards[there].std()
    scale = scale if scale > 0 else 1.0
    return np.where(there, (rewards - mean) / scale, 0.0), mean, scale
