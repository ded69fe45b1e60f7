"""What a loss that couples the rows of a batch must get right."""

import numpy as np
from keras import ops

from tests import oracles_correlation as oracles
from tests.gradients import value_and_grad
from tests.logit_cases import CASES, ROUNDING, Case, assert_close
from tests.tensors import tensor

# One program for each loss, whose gradient takes a step for each of its entries.
STACKED = Case(
    *(
        np.concatenate([CASES[name][side] for name in ("equal logits", "up to 1e4")])
        for side in (0, 1)
    )
)
WEIGHTS = np.array([2, 1, 0, 1, 3, 1, 0, 1])


def last_digits(oracle, case, temperature=4.0):
    """How far the gradient moves with the last digits of float32 probabilities.

    A class on which nearly all rows agree has little but these to correlate.

    Args:
        oracle: Of the student's and the teacher's logits.
        case: A `Case`.
        temperature: Of the student.

    Returns:
        `(..., 1)`, in units of the tolerance.
    """
    signs = np.random.default_rng(0).choice([-1.0, 1.0], case.student.shape)
    # Equal logits have equal probabilities, whatever these are.
    signs *= np.ptp(case.student, axis=-1, keepdims=True) > 0
    slopes = [
        oracles.gradient(lambda z: oracle(z, case.teacher), student)
        for student in (case.student, case.student + temperature * 2.0**-22 * signs)
    ]
    return np.abs(slopes[1] - slopes[0]).max(-1, keepdims=True) / 1e-5


def assert_equals_oracle(
    function, oracle, case, compiled=False, scale=1.0, gradient=oracles.gradient
):
    """Values and the gradient of their sum are the reference's.

    Relative to a sample's value and to its greatest gradient, where above 1.

    Args:
        function: Of the student's and the teacher's logits, both tensors of the
            case's dtype. One value a sample.
        oracle: The same of float64 arrays.
        case: A `Case`.
        compiled: See `value_and_grad`. True for shapes other than `(8, 100)`.
        scale: Multiplies the tolerance where above the others, `(..., 1)`.
        gradient: From the oracle of the student's logits, and these, to its gradient.
    """
    # For a new shape JAX compiles every operation by itself, or all at once.
    compiled = compiled or case.student.shape != (8, 100)
    teacher = ops.cast(tensor(case.teacher), case.dtype)
    values, slopes = value_and_grad(
        lambda student: function(student, teacher), case.student, compiled, case.dtype
    )
    expected = oracle(case.student, case.teacher)
    least = np.broadcast_to(scale, (*expected.shape, 1))
    assert_close(values, expected, 1e-5, np.maximum(least[..., 0], np.abs(expected)))
    expected = gradient(lambda z: oracle(z, case.teacher), case.student)
    greatest = np.maximum(least, np.abs(expected).max(-1, keepdims=True))
    assert_close(slopes, expected, 1e-5 + ROUNDING[case.dtype], greatest)
