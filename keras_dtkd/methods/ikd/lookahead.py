"""The exam's loss of the student after one more step."""

from keras import ops

from keras_dtkd import backend
from keras_dtkd.backend import autodiff, fixed_rng
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
    """The exam's cross-entropy after a look-ahead step of plain SGD.

    Args:
        forward: From weights, inputs and `training` to the student's logits. Has no
            lasting effect but on torch's generator, and gives the same for the same
            arguments and state of it. It moves on as by one pass in training.
        weights: The student's trainable weights, constants.
        course: `(x, labels or None, teacher_logits)`. The gradient of what is returned
            reaches the teacher through these logits, and nothing else.
        exam: `(x, labels)`.
        estimator: One of `ESTIMATORS`.
        rate: η of the look-ahead step.
        tau: Temperature of the course.
        loss_weights: `(soft, hard)`, the weights of soft targets and labels.
        reduce_mean: From one value a sample of the course to their weighted mean.
        all_reduce_gradient: From this device's gradient to that of all devices.

    Returns:
        A scalar. Its value is the exam's cross-entropy whatever the estimator, and its
        gradient with respect to the teacher's weights that of the cross-entropy:
        exactly, or but for the error of the estimator.
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
    # What is dropped at the look-ahead is dropped in the estimate.
    alike = fixed_rng.with_fixed_rng(lambda passes: passes())
    with backend.no_grad():
        moved = alike(lambda: lookahead_step(ops.stop_gradient(teacher)))
        moved = [ops.stop_gradient(w) for w in moved]
        value, direction = autodiff.value_and_input_grad(exam_loss_of, moved)
        # Of length 1: next to nothing is lost of the difference of two passes, however
        # little the exam has to say.
        direction, size = _normalize_direction(
            [ops.stop_gradient(v) for v in direction]
        )
        estimate = getattr(autodiff, estimator)
        _, directional_derivative = alike(
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
    """Tensors that together have the length 1, and the length that they had."""
    precise = [ops.cast(v, "float32") for v in direction]
    greatest = ops.max(ops.stack([ops.max(ops.abs(v)) for v in precise]))
    # The squares of a sure student's gradient are below any float32.
    precise = [v / ops.where(greatest > 0, greatest, 1.0) for v in precise]
    length = ops.sqrt(ops.maximum(sum(ops.sum(v * v) for v in precise), 1e-12))
    unit = [
        ops.cast(v / length, old.dtype)
        for v, old in zip(precise, direction, strict=True)
    ]
    return unit, length * greatest


def student_loss(student, teacher, labels, tau, loss_weights, reduce_mean):
    """`soft τ² KL(p ‖ q) + hard CE`, the mean over samples.

    Args:
        student: Logits, `(batch, ..., classes)`.
        teacher: The same.
        labels: Integers, or one number a class; `None` for none.
        tau: The temperature τ of p and q.
        loss_weights: The weights `(soft, hard)`.
        reduce_mean: From one value a sample to their weighted mean.
    """
    apart = divergences.kl(soft_log_probs(teacher, tau), soft_log_probs(student, tau))
    soft, hard = loss_weights
    total = soft * tau**2 * reduce_mean(apart)
    if labels is None:
        return total
    return total + hard * reduce_mean(cross_entropy(student, labels))


def cross_entropy(z, labels):
    """Of each sample."""
    return -ops.sum(to_class_probs(labels, z) * soft_log_probs(z), axis=-1)


def feedback_loss(z, labels):
    """The mean cross-entropy, of what is not masked."""
    values, counted = cross_entropy(z, labels), row_weights(z, mask=get_mask(z))
    if counted is None:
        return ops.mean(values)
    return ops.sum(counted * values) / ops.maximum(ops.sum(counted), 1.0)
