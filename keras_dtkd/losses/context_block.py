"""The global context of a map, added to each of its positions."""

import keras
from keras import ops


class ContextBlock(keras.layers.Layer):
    """`x + W₂ ReLU(LayerNorm(W₁ Σ_p softmax_p(w · x_p) x_p))`, of maps.

    A GcBlock: the positions' mean, weighted by attention, through a bottleneck of half
    the width. W₂ begins at 0, so that the block begins as the identity.

    Args:
        **kwargs: Of `keras.layers.Layer`.

    Call arguments:
        x: `(batch, height, width, channels)`.

    Returns:
        Of the same shape.

    Reference:
        Cao et al., "GCNet", arXiv 1904.11492. Initial weights and the epsilon of the
        normalization (1e-5) are those of the authors of FGD, arXiv 2111.11837, but for
        W₁: Keras's default.
    """

    def build(self, input_shape):
        width = input_shape[-1]
        options = {"dtype": self.dtype_policy}
        self.attention = keras.layers.Dense(
            1, kernel_initializer="he_normal", name="attention", **options
        )
        self.squeeze = keras.layers.Dense(max(width // 2, 1), name="squeeze", **options)
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, **options)
        self.expand = keras.layers.Dense(
            width, kernel_initializer="zeros", name="expand", **options
        )
        self.attention.build((None, width))
        self.squeeze.build((None, width))
        self.norm.build((None, self.squeeze.units))
        self.expand.build((None, self.squeeze.units))

    def call(self, x):
        positions = ops.reshape(x, (ops.shape(x)[0], -1, x.shape[-1]))
        shares = ops.softmax(self.attention(positions), axis=1)
        context = ops.sum(shares * positions, axis=1)
        context = self.expand(ops.relu(self.norm(self.squeeze(context))))
        return x + context[:, None, None]
