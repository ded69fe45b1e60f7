"""The temperatures at which teacher and student are equally sharp."""

from keras import ops

from keras_dtkd.functional import statistics
from keras_dtkd.functional.scalars import make_scalar

# Enough for a residual at float32's own level wherever the bounds allow a solution.
ITERATIONS = 8
MAX_STEP = 1.0
RESIDUAL_TOLERANCE = 2e-7


def equal_sharpness(student_logits, teacher_logits, tau, min_temperature):
    """Solves `Λ(u / T_t) = Λ(v / T_s)` under `T_t + T_s = 2τ`.

    Λ is the log-sum-exp, u and v are the mean-centered logits of teacher and student.
    The unknown is `ℓ = log(T_t / T_s)`; Newton's method starts at the second-order
    solution `log(σ_u / σ_v)` and stays within the bracket of earlier residuals.

    Returns the teacher's and the student's temperature, `(..., 1)` each: the bound
    where the solution lies beyond `min_temperature` (at most `tau`), and τ where both
    models' logits are constant.
    """
    where = statistics.unmasked_by_both(student_logits, teacher_logits)
    teacher_centered = statistics.center(teacher_logits, where=where)
    student_centered = statistics.center(student_logits, where=where)
    class_weights = ops.cast(where, teacher_centered.dtype)
    # The maximum is subtracted once, for all iterations: dividing by a positive
    # temperature does not move it.
    teacher_max = ops.max(teacher_centered, axis=-1, keepdims=True)
    student_max = ops.max(student_centered, axis=-1, keepdims=True)
    u, v = teacher_centered - teacher_max, student_centered - student_max

    bound = ops.log((2.0 * tau - min_temperature) / min_temperature)
    upper = bound + ops.zeros_like(teacher_max)
    lower = -upper
    log_ratio = ops.log(statistics.std(u, where=where) / statistics.std(v, where=where))
    log_ratio = ops.clip(log_ratio, lower, upper)
    zero, smallest, limit, smallest_sum = (
        make_scalar(value, upper) for value in (0.0, 1e-12, MAX_STEP, 1e-30)
    )
    for _ in range(ITERATIONS):
        teacher, student = _temperatures(log_ratio, tau)
        sharpness, teacher_mean = _sharpness_and_mean(
            u, teacher_max, class_weights, teacher, smallest_sum
        )
        student_sharpness, student_mean = _sharpness_and_mean(
            v, student_max, class_weights, student, smallest_sum
        )
        residual = sharpness - student_sharpness
        slope = (
            teacher_mean * student / teacher + student_mean * teacher / student
        ) / (2.0 * tau)
        # The residual falls as ℓ grows: its sign says on which side the root is.
        lower = ops.where(residual > 0, log_ratio, lower)
        upper = ops.where(residual < 0, log_ratio, upper)
        # Where only rounding is left, a flat Λ would turn it into a step.
        converged = ops.abs(residual) <= RESIDUAL_TOLERANCE * (1.0 + ops.abs(sharpness))
        step = ops.where(converged, zero, residual / ops.maximum(slope, smallest))
        step = ops.clip(step, -limit, limit)
        log_ratio = ops.clip(log_ratio + step, lower, upper)
    return _temperatures(log_ratio, tau)


def _temperatures(log_ratio, tau):
    """The teacher's and the student's temperature of `log(T_t / T_s)`."""
    return 2.0 * tau * ops.sigmoid(log_ratio), 2.0 * tau * ops.sigmoid(-log_ratio)


def _sharpness_and_mean(logits, maximum, class_weights, temperature, smallest):
    """Λ(z / T), and the mean of z under its softmax. `logits` are z minus `maximum`."""
    e = ops.exp(logits / temperature) * class_weights
    # No class is left where the two models mask complementary classes.
    total = ops.maximum(ops.sum(e, axis=-1, keepdims=True), smallest)
    mean = maximum + ops.sum(e * logits, axis=-1, keepdims=True) / total
    return ops.log(total) + maximum / temperature, mean
