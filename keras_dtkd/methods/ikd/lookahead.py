"""The exam's loss after a look-ahead step of the student."""

from keras import ops

from keras_dtkd import backend
from keras_dtkd.backend import autodiff
from keras_dtkd.core.masking import get_mask, row_weights
from keras_dtkd.functional import divergences
from keras_dtkd.functional.labels import to_class_probs
from keras_dtkd.functional.statistics import soft_log_probs

ESTIMATORS = ("exact", "jvp", "finite_difference")


def feedback_objective(
    forward,
    weights,
    course,
    exam,
    estimator,
    rate,
    tau,
    loss_weights,
    reduce_mean,
    all_reduce_gradient,
):
    """The exam's cross-entropy after a look-ahead step of plain SGD, a scalar.

    Its value does not depend on the estimator. Its gradient with respect to the
    teacher's weights is that of the cross-entropy, up to the error of the estimator.

    Args:
        forward: From weights, inputs and `training` to the student's logits, without
            effect but on torch's generator.
        weights: The student's trainable weights, constants.
        course: `(x, labels or None, teacher_logits)`. The gradient reaches the teacher
            through these logits alone.
        exam: `(x, labels)`.
        estimator: One of `ESTIMATORS`.
        rate: η of the look-ahead step.
        tau: Temperature of the course.
        loss_weights: `(soft, hard)`, the weights of soft targets and labels.
        reduce_mean: From one value a sample of the course to their weighted mean.
        all_reduce_gradient: From this device's gradient to that of all devices.
    """
    x, labels, teacher = course

    def student_loss_of(weights, teacher):
        return student_loss(
            forward(weights, x, True), teacher, labels, tau, loss_weights, reduce_mean
        )

    def exam_loss_of(weights):
        return feedback_loss(forward(weights, exam[0], False), exam[1])

    def lookahead_step(teacher):
        _, slope = autodiff.value_and_input_grad(
            lambda w: student_loss_of(w, teacher), weights
        )
        return [
            w - rate * g
            for w, g in zip(weights, all_reduce_gradient(slope), strict=True)
        ]

    if estimator == "exact":
        return exam_loss_of(lookahead_step(teacher))
    # The estimate drops the units that the look-ahead has dropped.
    with_same_dropout = backend.with_fixed_rng(lambda passes: passes())
    with backend.no_grad():
        moved = with_same_dropout(lambda: lookahead_step(ops.stop_gradient(teacher)))
        moved = [ops.stop_gradient(w) for w in moved]
        value, direction = autodiff.value_and_input_grad(exam_loss_of, moved)
        # Of length 1: the difference of two passes keeps its digits, however small the
        # exam's gradient.
        direction, size = _normalize_direction(
            [ops.stop_gradient(v) for v in direction]
        )
        estimate = getattr(autodiff, estimator)
        _, directional_derivative = with_same_dropout(
            lambda: estimate(lambda w: forward(w, x, True), weights, direction)
        )
        directional_derivative = size * directional_derivative
    # Of the course only -<p, log q> couples teacher and student, and of that only
    # -<p, z> / tau: so the derivative of the exam is that of an ordinary loss.
    directional_derivative = ops.stop_gradient(
        ops.cast(directional_derivative, "float32")
    )
    values = ops.sum(
        ops.exp(soft_log_probs(teacher, tau)) * directional_derivative, axis=-1
    )
    surrogate = rate * loss_weights[0] * tau * reduce_mean(values)
    return surrogate + ops.stop_gradient(value - surrogate)


def _normalize_direction(direction):
    """The tensors, scaled to a common length of 1, and their length."""
    precise = [ops.cast(v, "float32") for v in direction]
    greatest = ops.max(ops.stack([ops.max(ops.abs(v)) for v in precise]))
    # The squares of a confident student's gradient underflow in float32.
    precise = [v / ops.where(greatest > 0, greatest, 1.0) for v in precise]
    length = ops.sqrt(ops.maximum(sum(ops.sum(v * v) for v in precise), 1e-12))
    unit = [
        ops.cast(v / length, old.dtype)
        for v, old in zip(precise, direction, strict=True)
    ]
    return unit, length * greatest


def student_loss(student, teacher, labels, tau, loss_weights, reduce_mean):
    """`soft τ² KL(p ‖ q) + hard CE` of logits, the mean over samples."""
    kl = divergences.kl(soft_log_probs(teacher, tau), soft_log_probs(student, tau))
    soft, hard = loss_weights
    total = soft * tau**2 * reduce_mean(kl)
    if labels is None:
        return total
    return total + hard * reduce_mean(cross_entropy(student, labels))


def cross_entropy(logits, labels):
    """The cross-entropy of each sample."""
    return -ops.sum(to_class_probs(labels, logits) * soft_log_probs(logits), axis=-1)


def feedback_loss(logits, labels):
    """The mean cross-entropy of the positions that are not masked."""
    values = cross_entropy(logits, labels)
    weights = row_weights(logits, mask=get_mask(logits))
    if weights is None:
        return ops.mean(values)
    return ops.sum(weights * values) / ops.maximum(ops.sum(weights), 1.0)
