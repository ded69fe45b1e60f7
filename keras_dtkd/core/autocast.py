"""Variables as they are, where Keras casts them for a layer in mixed precision."""

import keras


class _WithoutAutocast(keras.layers.Layer):
    def __init__(self):
        super().__init__(name="without_autocast", dtype="float32", autocast=False)
        self.built = True

    def call(self, *, function):
        return function()


# Made here, since `torch.compile` cannot trace that. It has no state.
_without_autocast = _WithoutAutocast()


def assign_uncast(variables, values):
    """Assigns values, within a layer's call too.

    There Keras's torch backend assigns to a copy where it casts a variable.
    """

    def assign():
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    _without_autocast(function=assign)
