"""Which perturbations an attack may make: norm balls, and the range of the data."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_dtkd.core.arguments import check_choice
from keras_dtkd.core.arrays import to_numpy


class NormBall:
    """Perturbations of an input whose norm is at most `epsilon`, a float32 array.

    `sample` returns NumPy perturbations of a batch, uniform in the ball, `project` the
    nearest perturbation in the ball, and `steepest_step` the step of norm 1 that
    increases the loss most, 0 where none does.
    """

    def __init__(self, epsilon):
        self.epsilon = epsilon


class Linf(NormBall):
    """Every number changes by at most `epsilon`."""

    def sample(self, rng, shape):
        return self.epsilon * rng.uniform(-1.0, 1.0, shape)

    def steepest_step(self, gradient):
        return ops.sign(gradient)

    def project(self, perturbation):
        return ops.minimum(ops.maximum(perturbation, -self.epsilon), self.epsilon)


class L2(NormBall):
    """The Euclidean norm of a perturbation is at most `epsilon`."""

    def sample(self, rng, shape):
        direction = rng.standard_normal(shape).reshape(shape[0], -1)
        norm = np.sqrt(np.square(direction).sum(-1, keepdims=True))
        radius = rng.uniform(size=(shape[0], 1)) ** (1 / direction.shape[1])
        return (self.epsilon * radius * direction / norm).reshape(shape)

    def steepest_step(self, gradient):
        return normalize(gradient, 2)

    def project(self, perturbation):
        norm = ops.maximum(_norm(perturbation, 2), 1e-12)
        return perturbation * ops.minimum(ops.divide(self.epsilon, norm), 1.0)


NORM_BALLS: dict[str, Any] = {"linf": Linf, "l2": L2}


def normalize(gradient, order):
    """Gradients of L1 or L2 norm 1 for each sample; 0 where all elements are 0."""
    # Squares of tiny elements underflow.
    largest = _norm(gradient, np.inf)
    gradient = gradient / ops.where(largest > 0, largest, 1.0)
    return gradient / ops.maximum(_norm(gradient, order), 1e-12)


def _norm(x, order):
    """The norm of each sample, with the axes kept."""
    norm = ops.norm(ops.reshape(x, (x.shape[0], -1)), order, axis=-1)
    return ops.reshape(norm, (-1, *[1] * (len(x.shape) - 1)))


def validate_inputs(caller, x):
    """Inputs as float32 NumPy. Raises a `ValueError` unless one array of floats."""
    if keras.tree.is_nested(x):
        raise ValueError(
            f"`{caller}`: `x` is a {type(x).__name__}, but attacks perturb one array. "
            "Wrap a model with several inputs in a model of the input to attack."
        )
    x = to_numpy(x)
    # Kind "V" is bfloat16.
    if x.dtype.kind not in "fV":
        raise ValueError(
            f"`{caller}`: `x` is of {x.dtype}, but only floats can be perturbed. If "
            "the model takes pixels from 0 to 1, give `x.astype('float32') / 255`; if "
            "from 0 to 255, `x.astype('float32')`, `range=(0, 255)` and `epsilon` in "
            "the same units."
        )
    x = x.astype("float32")
    if x.ndim < 2 or not x.size or not np.isfinite(x).all():
        raise ValueError(
            f"`{caller}`: `x` must be `(samples, ...)`, not empty, without NaN and "
            f"infinity. Received: shape {x.shape}."
        )
    return x


def validate_range(caller, range, x):
    """The range as two float32 arrays, `None` for no limit. `x` must be within it."""
    if range is None:
        return None
    try:
        low, high = (np.asarray(bound, "float32") for bound in range)
        np.broadcast_to(low + high, x.shape[1:])
    except (TypeError, ValueError):
        raise ValueError(
            f"`{caller}`: `range` must be `(lowest, highest)`, numbers or arrays that "
            f"broadcast against inputs of shape {x.shape[1:]}, or None. Received: "
            f"range={range!r}."
        ) from None
    if not (low < high).all():
        raise ValueError(
            f"`{caller}`: the lower bound of `range` must be below the upper bound. "
            f"Received: range={range!r}."
        )
    # Rounding errors of a normalization in float32.
    slack = 1e-5 * (high - low)
    if (x < low - slack).any() or (x > high + slack).any():
        raise ValueError(
            f"`{caller}`: `x` has values from {x.min():.4g} to {x.max():.4g}, outside "
            f"of `range={range!r}`. Give the range of the model's inputs (for "
            "normalized channels `((0 - mean) / std, (1 - mean) / std)`), or "
            "`range=None` for no limit."
        )
    return low, high


def validate_radius(caller, name, value, norm, x):
    """`epsilon` or `step_size` as a float32 array, positive and finite."""
    check_choice(caller, "norm", norm, NORM_BALLS)
    try:
        radius = np.asarray(value, "float32")
        np.broadcast_to(radius, x.shape[1:])
        is_valid = (norm == "linf" or not radius.ndim) and np.isfinite(radius).all()
    except (TypeError, ValueError):
        is_valid = False
    if not is_valid or not (radius > 0).all():
        accepted = "a number"
        if norm == "linf":
            accepted += f", or an array that broadcasts against inputs of {x.shape[1:]}"
        raise ValueError(
            f"`{caller}`: `{name}` must be {accepted}, above 0. Received: "
            f"{name}={value!r}."
        )
    return radius
