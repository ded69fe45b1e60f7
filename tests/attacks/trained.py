"""The smallest trained model on which attacks differ in strength."""

import functools

import keras
import numpy as np

from tests.attacks.oracle import CLASSES, FEATURES


def data(samples=200, seed=0):
    """Inputs in [0, 1]; the class is the index of the largest of the first four."""
    x = np.random.default_rng(seed).uniform(size=(samples, FEATURES)).astype("float32")
    return x, x[:, :CLASSES].argmax(-1)


@functools.cache
def model():
    """Accurate, and nonlinear enough that one step is not the strongest attack."""
    glorot = keras.initializers.GlorotUniform
    classifier = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(24, activation="relu", kernel_initializer=glorot(1)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.1, seed=3),
            keras.layers.Dense(CLASSES, kernel_initializer=glorot(2)),
        ]
    )
    classifier.compile(
        keras.optimizers.Adam(0.03),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    x, y = data(400, seed=5)
    classifier.fit(x, y, batch_size=100, epochs=20, shuffle=False, verbose=0)
    return classifier
