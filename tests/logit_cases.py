"""Logits that every loss must get right, and how right it must be."""

import functools
from typing import NamedTuple

import numpy as np
from keras import ops

from tests import oracles, oracles_correlation
from tests.gradients import value_and_grad
from tests.selection import RUNS_EVERYTHING
from tests.tensors import numpy, tensor, tensors

# Half a unit in the last place: what the gradient's own dtype costs.
ROUNDING = {"float32": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8}


class Case(NamedTuple):
    """Logits as float64 numbers that the dtype holds exactly."""

    student: np.ndarray
    teacher: np.ndarray
    dtype: str = "float32"


def rounded(logits, dtype="float32"):
    logits = ops.cast(ops.convert_to_tensor(logits.astype("float32")), dtype)
    # A copy: what a backend hands out may be read-only.
    return np.array(ops.convert_to_numpy(ops.cast(logits, "float32")), "float64")


def draw(shape, student=2.0, teacher=4.0, seed=0, dtype="float32"):
    """Gaussian logits of these standard deviations."""
    rng = np.random.default_rng(seed)
    pair = (rng.normal(scale=scale, size=shape) for scale in (student, teacher))
    return Case(*(rounded(z, dtype) for z in pair), dtype)


def _equal():
    case = draw((8, 100))
    # Rows 0 to 3: the student's; 4 and 5: both models'; 6 and 7: the teacher's.
    case.student[:6], case.teacher[4:] = 0.5, 0.5
    case.student[0] = case.teacher[7] = 0.0
    return case


def _huge():
    rng = np.random.default_rng(1)
    student, teacher = rng.uniform(-1e4, 1e4, (2, 8, 100))
    # Rows 0 to 2: tied at the limits; 3 and 4: one class alone above the others.
    student[:2], teacher[1:3] = rng.choice([-1e4, 1e4], (2, 2, 100))
    teacher[3:5] = -1e4
    teacher[3, 7] = teacher[4, 9] = student[3, 7] = 1e4
    return Case(rounded(student), rounded(teacher))


def _no_positive_maximum():
    case = draw((8, 100), seed=2)
    case.student[:6] -= 40.0
    case.teacher[3:] -= 40.0
    return Case(rounded(case.student), rounded(case.teacher))


CASE = draw((8, 100))
CASES = {
    "100 classes": draw((8, 100)),
    "2 classes": draw((8, 2)),
    "1 sample": draw((1, 100)),
    "sequences": draw((2, 4, 100)),
    "equal logits": _equal(),
    "up to 1e4": _huge(),
    "no positive maximum": _no_positive_maximum(),
    "float16": draw((8, 100), dtype="float16"),
    "bfloat16": draw((8, 100), dtype="bfloat16"),
}
# To test one by one. What differs in shape, or in how half a float is rounded, is a
# matter of the formula, and JAX compiles each operation again for it.
_ELSEWHERE = ("2 classes", "1 sample", "sequences", "bfloat16")
CASE_NAMES = [name for name in CASES if RUNS_EVERYTHING or name not in _ELSEWHERE]
FLOAT32_NAMES = [name for name in CASE_NAMES if CASES[name].dtype == "float32"]
_WIDE = [case for case in CASES.values() if case.student.shape == (8, 100)]
# One program for each loss: compiling takes the time that running does not.
STACKED = Case(*(np.concatenate(side) for side in list(zip(*_WIDE, strict=True))[:2]))


def assert_close(actual, expected, tolerance=1e-5, scale=1.0):
    """No number is off by more than the tolerance, times the scale if above 1."""
    actual = np.asarray(actual, "float64")
    assert np.isfinite(actual).all()
    error = np.abs(actual - expected) / np.maximum(1.0, scale)
    where = np.unravel_index(error.argmax(), error.shape)
    assert error.max() <= tolerance, f"off by {error.max():.1e} at {where}"


def values(loss, case=CASE):
    """A loss's values for a case, float64."""
    return numpy(loss(*tensors(*case[:2])))


def results(loss, student=CASE.student, teacher=CASE.teacher):
    """A loss's values, and the gradient of their sum by the student's logits."""
    return value_and_grad(lambda z: loss(z, tensor(teacher)), student)


def temperatures(temperature, *arrays):
    """What a temperature gives, three float64 arrays."""
    return [numpy(t) for t in temperature(*tensors(*arrays))]


def digits(case):
    """How much of a logit float32 can keep, `(..., 1)`, in units of the tolerance."""
    greatest = np.maximum(np.abs(case.student), np.abs(case.teacher))
    return greatest.max(-1, keepdims=True) * 2.0**-24 / 1e-5


def assert_equals_oracle(
    function, oracle, case, tolerance=1e-5, scale=1.0, gradient=oracles.gradient
):
    """Values, and gradients with respect to the student, are the reference's.

    Relative to a sample's value and to its greatest gradient, where above 1.

    Args:
        function: Of the student's and the teacher's logits, both tensors of the
            case's dtype. One value a sample.
        oracle: The same of float64 arrays.
        case: A `Case`.
        tolerance: For float32. A coarser dtype adds its own rounding to gradients.
        scale: Multiplies the tolerance where above the others, `(..., 1)`.
        gradient: From the oracle of the student's logits, and these, to its gradient.
    """
    teacher = ops.cast(ops.convert_to_tensor(case.teacher, "float32"), case.dtype)
    values, gradients = value_and_grad(
        lambda student: function(student, teacher), case.student, dtype=case.dtype
    )
    expected = oracle(case.student, case.teacher)
    least = np.broadcast_to(scale, (*expected.shape, 1))
    assert_close(
        values, expected, tolerance, np.maximum(least[..., 0], np.abs(expected))
    )
    expected = gradient(lambda z: oracle(z, case.teacher), case.student)
    scale = np.maximum(least, np.abs(expected).max(-1, keepdims=True))
    assert_close(gradients, expected, tolerance + ROUNDING[case.dtype], scale)


# Of a loss whose values depend on all samples.
assert_batch_equals_oracle = functools.partial(
    assert_equals_oracle, gradient=oracles_correlation.gradient
)
