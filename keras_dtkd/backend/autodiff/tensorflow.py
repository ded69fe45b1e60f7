"""TensorFlow."""

import contextlib

import keras


def value_and_input_grad(fn, x):
    """Always with `aux`."""
    import tensorflow as tf

    leaves = keras.tree.flatten(x)
    with tf.GradientTape() as tape, _moments_of_any_order():
        tape.watch(leaves)
        value, aux = fn(x)
    gradients = tape.gradient(value, leaves, unconnected_gradients="zero")
    # That of a lookup is a list of rows.
    gradients = list(map(tf.convert_to_tensor, gradients))
    return (value, aux), keras.tree.pack_sequence_as(x, gradients)


def jvp(fn, x, v):
    """Always with `aux`."""
    import tensorflow as tf

    leaves, directions = keras.tree.flatten(x), keras.tree.flatten(v)
    with tf.autodiff.ForwardAccumulator(leaves, directions) as accumulator:
        with _moments_of_any_order():
            value, aux = fn(x)
        tangent = accumulator.jvp(value, unconnected_gradients="zero")
    return (value, aux), tangent


@contextlib.contextmanager
def _moments_of_any_order():
    """`tf.nn.moments`, of which BatchNorm and LayerNorm are made, as they are.

    TensorFlow's own hides the mean from the variance's gradient, where it makes no
    difference. In the second derivative it does, and that is silently wrong.
    """
    import tensorflow as tf

    def moments(x, axes, shift=None, keepdims=False, name=None):
        mean = tf.reduce_mean(x, axes, keepdims=True)
        squares = tf.math.squared_difference(x, mean)
        variance = tf.reduce_mean(squares, axes, keepdims=True)
        if keepdims:
            return mean, variance
        return tf.squeeze(mean, axes), tf.squeeze(variance, axes)

    # Replicas take turns in here: whichever is the last to leave, the numbers are the
    # same.
    before, tf.nn.moments = tf.nn.moments, moments
    try:
        yield
    finally:
        tf.nn.moments = before
