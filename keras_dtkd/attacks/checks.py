"""What an attack cannot work with, said before its first step."""

import keras
import numpy as np

from keras_dtkd.core.arrays import to_numpy


def images(who, x):
    """Inputs as float32 NumPy: one array of floats, not empty, finite."""
    if keras.tree.is_nested(x):
        raise ValueError(
            f"`{who}`: `x` is a {type(x).__name__}, and one array is attacked at a "
            "time. Wrap a model of several inputs in one of the input to attack."
        )
    x = to_numpy(x)
    # Of kind "V": a bfloat16 array.
    if x.dtype.kind not in "fV":
        raise ValueError(
            f"`{who}`: `x` is of {x.dtype}, and only floats can be moved a little. If "
            "the model takes pixels from 0 to 1, give `x.astype('float32') / 255`; if "
            "from 0 to 255, `x.astype('float32')`, `range=(0, 255)` and `epsilon` in "
            "the same units."
        )
    x = x.astype("float32")
    if x.ndim < 2 or not x.size or not np.isfinite(x).all():
        raise ValueError(
            f"`{who}`: `x` must be `(samples, ...)`, with samples, without NaN and "
            f"infinity. Received: shape {x.shape}."
        )
    return x


def bounds(who, range, x):
    """The data's range as two float32 arrays, `None` where there is none."""
    if range is None:
        return None
    try:
        low, high = (np.asarray(bound, "float32") for bound in range)
        np.broadcast_to(low + high, x.shape[1:])
    except (TypeError, ValueError):
        raise ValueError(
            f"`{who}`: `range` must be `(lowest, highest)`, numbers or arrays that "
            f"broadcast against inputs of shape {x.shape[1:]}, or None. Received: "
            f"range={range!r}."
        ) from None
    if not (low < high).all():
        raise ValueError(
            f"`{who}`: `range` must begin below its end. Received: range={range!r}."
        )
    # What normalising costs in float32.
    slack = 1e-5 * (high - low)
    if (x < low - slack).any() or (x > high + slack).any():
        raise ValueError(
            f"`{who}`: `x` has values from {x.min():.4g} to {x.max():.4g}, outside of "
            f"`range={range!r}`. Give the range of the data as the model takes it, "
            "for normalised channels `((0 - mean) / std, (1 - mean) / std)`, or "
            "`range=None` for none."
        )
    return low, high


def size(who, name, value, norm, x):
    """`epsilon` or `step_size` as a float32 array."""
    if norm not in ("linf", "l2"):
        raise ValueError(
            f"`{who}`: `norm` must be 'linf' or 'l2'. Received: norm={norm!r}."
        )
    given = value
    try:
        value = np.asarray(value, "float32")
        np.broadcast_to(value, x.shape[1:])
        fits = (norm == "linf" or not value.ndim) and np.isfinite(value).all()
    except (TypeError, ValueError):
        fits = False
    if not fits or not (value > 0).all():
        kind = "a number"
        if norm == "linf":
            kind += f", or an array that broadcasts against inputs of {x.shape[1:]}"
        raise ValueError(
            f"`{who}`: `{name}` must be {kind}, above 0. Received: {name}={given!r}."
        )
    return value


def whole(who, **numbers):
    """Integers from 1."""
    for name, value in numbers.items():
        if isinstance(value, bool) or int(value) != value or value < 1:
            raise ValueError(
                f"`{who}`: `{name}` must be an integer of at least 1. Received: "
                f"{name}={value!r}."
            )


def wandering(who, momentum, diversity, restarts, random_start, x):
    """The ways in which one step, and one start, differ from the next."""
    if momentum < 0:
        raise ValueError(
            f"`{who}`: `momentum` must not be negative. Received: momentum={momentum}."
        )
    if not 0 <= diversity <= 1:
        raise ValueError(
            f"`{who}`: `diversity` is a probability, from 0 to 1. Received: "
            f"diversity={diversity}."
        )
    if diversity and x.ndim != 4:
        raise ValueError(
            f"`{who}`: `diversity` resizes images, `(samples, height, width, "
            f"channels)`. Received: x of shape {x.shape}. Set `diversity=0`."
        )
    if restarts > 1 and not random_start and not diversity:
        raise ValueError(
            f"`{who}`: without a random start all {restarts} starts are the same. Set "
            "`random_start=True`, or `restarts=1`."
        )
