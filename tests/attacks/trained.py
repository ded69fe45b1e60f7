"""The smallest trained model on which one attack is better than another."""

import functools

import keras
import numpy as np

from tests.attacks.oracle import CLASSES, FEATURES


def data(samples=200, seed=0):
    """Inputs from 0 to 1; the class is the greatest of the first four."""
    x = np.random.default_rng(seed).uniform(size=(samples, FEATURES)).astype("float32")
    return x, x[:, :CLASSES].argmax(-1)


@functools.cache
def model():
    """Right in most cases, and crooked enough that one step is not the best."""
    start = keras.initializers.GlorotUniform
    made = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(24, activation="relu", kernel_initializer=start(1)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.1, seed=3),
            keras.layers.Dense(CLASSES, kernel_initializer=start(2)),
        ]
    )
    made.compile(
        keras.optimizers.Adam(0.03),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    made.fit(*data(400, seed=5), batch_size=100, epochs=20, shuffle=False, verbose=0)
    return made
