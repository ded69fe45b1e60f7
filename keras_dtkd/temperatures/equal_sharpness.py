"""The temperatures at which teacher and student are equally sharp."""

from keras import ops

from keras_dtkd.functional import statistics

# Enough for a residual at float32's own level wherever the bounds allow a solution.
ITERATIONS = 8
LARGEST_STEP = 1.0
ROUNDING = 2e-7


def equal_sharpness(student_logits, teacher_logits, tau, lowest):
    """Solves `Λ(u / T_t) = Λ(v / T_s)` under `T_t + T_s = 2τ`.

    Λ is the log-sum-exp, u and v the mean-centred logits of teacher and student.
    For centred logits Λ grows strictly with sharpness, so there is exactly one
    solution. The unknown is `ℓ = log(T_t / T_s)`; Newton's method starts at the
    second-order solution `log(σ_u / σ_v)`. Each step is at most 1 long, and stays
    within the bracket that the signs seen so far allow.

    Args:
        student_logits: `(..., classes)`.
        teacher_logits: `(..., classes)`.
        tau: Mean temperature: scalar, or `(..., 1)`.
        lowest: Smallest temperature of either, as `tau`. Not above it.

    Returns:
        The teacher's and the student's temperature, `(..., 1)` each. Where the
        solution lies beyond `lowest`, the bound. Both τ where both are constant.

    Reference:
        Wei and Bai, arXiv 2404.12711, equation 3, with centred logits.
    """
    where = ops.logical_and(
        statistics.is_unmasked(student_logits), statistics.is_unmasked(teacher_logits)
    )
    u = statistics.center(teacher_logits, where=where)
    v = statistics.center(student_logits, where=where)
    mass = ops.cast(where, u.dtype)
    # The maximum is taken out once, for all iterations: dividing by a positive
    # temperature does not move it.
    u_max = ops.max(u, axis=-1, keepdims=True)
    v_max = ops.max(v, axis=-1, keepdims=True)
    u, v = u - u_max, v - v_max

    bound = ops.log((2.0 * tau - lowest) / lowest)
    high = bound + ops.zeros_like(u_max)
    low = -high
    ell = ops.log(_spread(u, mass) / _spread(v, mass))
    ell = ops.clip(ell, low, high)
    for _ in range(ITERATIONS):
        teacher, student = _split(ell, tau)
        sharp_u, mean_u = _moments(u, u_max, mass, teacher)
        sharp_v, mean_v = _moments(v, v_max, mass, student)
        residual = sharp_u - sharp_v
        slope = (mean_u * student / teacher + mean_v * teacher / student) / (2.0 * tau)
        # The residual falls as ℓ grows: its sign says on which side the root is.
        low = ops.where(residual > 0, ell, low)
        high = ops.where(residual < 0, ell, high)
        # Where nothing but rounding is left, a flat Λ would turn it into a step.
        settled = ops.abs(residual) <= ROUNDING * (1.0 + ops.abs(sharp_u))
        step = ops.where(settled, 0.0, residual / ops.maximum(slope, 1e-12))
        step = ops.clip(step, -LARGEST_STEP, LARGEST_STEP)
        ell = ops.clip(ell + step, low, high)
    return _split(ell, tau)


def _split(ell, tau):
    teacher = 2.0 * tau * ops.sigmoid(ell)
    return teacher, 2.0 * tau * ops.sigmoid(-ell)


def _moments(z, maximum, mass, temperature):
    """Λ(z / T), and the mean of z under its softmax."""
    e = ops.exp(z / temperature) * mass
    # No class at all may be left, where both models mask different ones.
    total = ops.maximum(ops.sum(e, axis=-1, keepdims=True), 1e-30)
    mean = maximum + ops.sum(e * z, axis=-1, keepdims=True) / total
    return ops.log(total) + maximum / temperature, mean


def _spread(z, mass):
    """Standard deviation of logits whose maximum was taken out."""
    return statistics.std(z, where=mass > 0)
