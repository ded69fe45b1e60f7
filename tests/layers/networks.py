"""Networks to copy: nested, with shared layers, of classes of their own."""

import keras
import numpy as np
from keras import ops

from keras_dtkd.core.layer_tree import iter_layers
from tests.layers.attentive import SHAPE, network

LAYERS = keras.layers


def nested():
    """A functional model with a functional and a sequential one in it."""
    inputs = keras.Input((6, 6, 4))
    x = LAYERS.Conv2D(4, 3, padding="same", name="conv")(inputs)
    x = LAYERS.BatchNormalization(name="inner_norm")(x)
    inner = keras.Model(inputs, LAYERS.Add(name="sum")([x, inputs]), name="inner")
    tail = keras.Sequential(
        [LAYERS.Conv2D(5, 3, strides=2, name="conv2"), LAYERS.Flatten(name="flat")],
        name="tail",
    )
    inputs = keras.Input(SHAPE)
    x = LAYERS.Conv2D(4, 1, use_bias=False, name="conv1")(inputs)
    # Twice: its layers are shared.
    return keras.Model(inputs, tail(inner(inner(x))), name="nested")


def shared():
    """A convolution at two places, and operations that are no layers."""
    inputs = keras.Input(SHAPE)
    conv = LAYERS.Conv2D(3, 3, padding="same", activation="relu", name="shared_conv")
    x = conv(inputs)
    y = conv(ops.transpose(x, (0, 2, 1, 3)))
    return keras.Model(inputs, ops.concatenate([x * 2.0, y[:, ::2]], axis=1))


def deferred():
    """Without an input layer."""
    layers = LAYERS.Conv2D(6, 3, groups=3, name="g"), LAYERS.Conv2D(4, 2, name="h")
    model = keras.Sequential(layers, name="deferred")
    model.build((None, *SHAPE))
    return model


MODELS = {
    "sequential": network,
    "nested": nested,
    "shared": shared,
    "deferred": deferred,
}


def randomize(model):
    """Weights that are no initial ones, so that a copy has to take them over."""
    rng = np.random.default_rng(6)
    model.set_weights([rng.normal(0, 0.3, w.shape) for w in model.get_weights()])
    for layer in iter_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_variance.assign(rng.uniform(0.5, 2, layer.gamma.shape))
    return model


class Convolution:
    """A `call` that is one convolution."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = LAYERS.Conv2D(4, 3, name="conv")

    def build(self, input_shape):
        self.conv.build(input_shape)

    def call(self, inputs):
        return self.conv(inputs)

    def compute_output_shape(self, input_shape):
        return self.conv.compute_output_shape(input_shape)


class Block(Convolution, keras.layers.Layer):
    """A layer that is no functional model and has a convolution."""


class OwnCall(Convolution, keras.Model):
    """A model with a `call` of its own."""


class OwnTraining(keras.Model):
    """A functional model with a constructor and a loss of its own."""

    def __init__(self, filters, **kwargs):
        inputs = keras.Input(SHAPE)
        outputs = LAYERS.Conv2D(filters, 3)(inputs)
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)

    def compute_loss(self, *args, **kwargs):
        return 2.0 * super().compute_loss(*args, **kwargs)
