"""The bounds of a temperature, one not above the other."""

from keras_dtkd.core.hyperparameters import Hyperparameter


class OrderedBound(Hyperparameter):
    """`min_temperature` or `max_temperature`, with the former not above the latter.

    The class assigns `min_temperature` first.
    """

    def validate(self, layer, value):
        number = super().validate(layer, value)
        is_lower = self.name == "min_temperature"
        low = number if is_lower else layer.min_temperature
        high = getattr(layer, "max_temperature", number) if is_lower else number
        if low > high:
            raise ValueError(
                f"`{type(layer).__name__}`: `min_temperature` must not be above "
                f"`max_temperature`. Received: min_temperature={low!r}, "
                f"max_temperature={high!r}."
            )
        return number
