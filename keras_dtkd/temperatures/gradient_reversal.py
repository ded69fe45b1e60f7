"""A weight that ascends the loss which the optimizer descends."""

import keras
from keras import ops


class GradientReversedWeight(keras.layers.Layer):
    """A weight `offset + step_scale · θ` that moves up its gradient.

    The optimizer trains θ, the `ascent_variable`, which starts at 0. Its gradient is
    that of the whole weight times −1, whatever the step scale. So the weight moves
    by `step_scale` times the optimizer's own step, whether the optimizer is SGD or one
    that divides a factor of the gradient out again (Adam).

    A new step scale changes neither the weight nor θ: the difference is moved into
    `offset`. With `weight_decay_to_offset`, the optimizer's weight decay pulls θ to 0
    and so the weight to `offset`, which must keep the initial weight: a new step scale
    rescales θ instead.

    Reference:
        Ganin and Lempitsky, "Unsupervised Domain Adaptation by Backpropagation",
        arXiv 1409.7495, multiply the gradient by −λ instead.
    """

    def __init__(
        self,
        shape=(),
        initializer="zeros",
        step_scale=1.0,
        weight_decay_to_offset=False,
        name=None,
    ):
        super().__init__(name=name, dtype="float32", autocast=False)
        self.weight_decay_to_offset = weight_decay_to_offset
        step_scale = keras.initializers.Constant(step_scale)
        self.ascent_variable = self._add("ascent_variable", shape, "zeros", True)
        self.offset = self._add("offset", shape, initializer)
        self.step_scale = self._add("step_scale", (), step_scale)
        self.built = True

    def _add(self, name, shape, initializer, trainable=False):
        return self.add_weight(
            shape, initializer, trainable=trainable, autocast=False, name=name
        )

    def value(self):
        """The weight as a tensor, for use inside a step. Its gradient is reversed."""
        variables = self.offset, self.step_scale, self.ascent_variable
        return reverse_gradient(*map(ops.convert_to_tensor, variables))

    def numpy(self):
        """The weight as a NumPy array, outside of training."""
        return ops.convert_to_numpy(
            self.offset + self.step_scale * self.ascent_variable
        )

    def set_step_scale(self, step_scale):
        """Changes the step scale but not the weight. Outside of a compiled step."""
        previous = float(ops.convert_to_numpy(self.step_scale))
        theta = self.ascent_variable
        if self.weight_decay_to_offset and previous > 0 and step_scale > 0:
            theta.assign(theta * (previous / step_scale))
        else:
            self.offset.assign(self.offset + (previous - step_scale) * theta)
        self.step_scale.assign(step_scale)


def reverse_gradient(offset, step_scale, theta):
    """`offset + step_scale · θ`, with derivative −1 by θ and 0 by the others."""
    # In this order the value is exact: θ may be far greater than the weight.
    weight = ops.stop_gradient(offset + step_scale * theta)
    return weight + (ops.stop_gradient(theta) - theta)
