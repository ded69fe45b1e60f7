"""The bounds of a temperature, one not above the other."""

from keras_dtkd.core.hyperparameters import Hyperparameter


class OrderedBound(Hyperparameter):
    """One of two positive bounds, of which the class assigns the lower first.

    Args:
        low: Name of the lower bound.
        high: Name of the upper bound.
    """

    def __init__(self, low, high):
        super().__init__(greater_than=0.0)
        self.low, self.high = low, high

    def validate(self, layer, value):
        number = super().validate(layer, value)
        is_lower = self.name == self.low
        low = number if is_lower else getattr(layer, self.low)
        high = getattr(layer, self.high, number) if is_lower else number
        if low > high:
            raise ValueError(
                f"`{type(layer).__name__}`: `{self.low}` must not be above "
                f"`{self.high}`. Received: {self.low}={low!r}, {self.high}={high!r}."
            )
        return number
