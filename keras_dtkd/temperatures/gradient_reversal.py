"""A weight that climbs the loss which the optimizer descends."""

import keras
from keras import ops


class GradientReversedWeight(keras.layers.Layer):
    """A weight `base + pace · θ` that moves against its gradient's usual direction.

    The optimizer trains θ, which starts at 0, and gets the gradient of the whole
    weight times −1, of full size whatever the pace. So the weight moves by `pace`
    times the optimizer's own step, be it SGD's or that of an optimizer (Adam) which
    divides a factor of the gradient out again.

    A new pace leaves the weight where it is, and θ too, with what the optimizer
    remembers of it (an average of weights): the difference goes into `base`.

    Args:
        shape: Shape of the weight.
        initializer: Of `base`, the weight at the start.
        pace: Factor of the optimizer's steps. Not negative.
        decays: Whether the optimizer's weight decay pulls θ to 0, and the weight to
            `base`. Then `base` must stay where the weight started, and a new pace
            rescales θ instead.

    Attributes:
        theta: The trainable variable, float32 under any policy.
        base: Where the weight is while θ is 0.
        pace: The factor.

    Reference:
        Ganin and Lempitsky, "Unsupervised Domain Adaptation by Backpropagation",
        arXiv 1409.7495, multiply the gradient by −λ instead.
    """

    def __init__(
        self, shape=(), initializer="zeros", pace=1.0, decays=False, name=None
    ):
        super().__init__(name=name, dtype="float32", autocast=False)
        self.decays = decays
        self.theta = self.add_weight(
            shape=shape,
            initializer="zeros",
            dtype="float32",
            autocast=False,
            name="theta",
        )
        self.base = self.add_weight(
            shape=shape,
            initializer=initializer,
            trainable=False,
            dtype="float32",
            autocast=False,
            name="base",
        )
        self.pace = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(pace),
            trainable=False,
            dtype="float32",
            autocast=False,
            name="pace",
        )
        self.built = True

    def reversed(self):
        """The weight as a tensor, for use inside a step: its gradient is reversed."""
        parts = self.base, self.pace, self.theta
        return reverse_gradient(*(ops.convert_to_tensor(part) for part in parts))

    def numpy(self):
        """The weight as an array, outside of training."""
        return ops.convert_to_numpy(self.base + self.pace * self.theta)

    def set_pace(self, pace):
        """Changes the pace and not the weight. Outside of any compiled step."""
        before = float(ops.convert_to_numpy(self.pace))
        if self.decays and before > 0 and pace > 0:
            self.theta.assign(self.theta * (before / pace))
        else:
            self.base.assign(self.base + (before - pace) * self.theta)
        self.pace.assign(pace)


def reverse_gradient(base, pace, theta):
    """`base + pace · θ`, with the derivative −1 by θ and 0 by the others."""
    # In this order the value is exact: θ may be far greater than the weight.
    weight = ops.stop_gradient(base + pace * theta)
    return weight + (ops.stop_gradient(theta) - theta)
