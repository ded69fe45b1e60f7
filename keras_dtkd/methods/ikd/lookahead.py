"""What the student would be after one more step, and what the exam says of it."""

from keras import ops

from keras_dtkd import backend
from keras_dtkd.backend import autodiff, fixed_rng
from keras_dtkd.core.masking import get_mask, row_weights
from keras_dtkd.functional import divergences
from keras_dtkd.functional.labels import to_class_probs
from keras_dtkd.functional.statistics import soft_log_probs

ESTIMATORS = ("exact", "jvp", "finite_difference")


def feedback_objective(
    speak, weights, course, exam, estimator, rate, tau, parts, mean, of_all
):
    """The exam's cross-entropy after a look-ahead step of plain SGD.

    Args:
        speak: From weights, inputs and `training` to the student's logits. Has no
            lasting effect but on torch's generator, and gives the same for the same
            arguments and state of it. It moves on as by one pass in training.
        weights: The student's trainable weights, constants.
        course: `(x, labels or None, teacher_logits)`. The gradient of what is returned
            reaches the teacher through these logits, and nothing else.
        exam: `(x, labels)`.
        estimator: One of `ESTIMATORS`.
        rate: η of the look-ahead step.
        tau: Temperature of the course.
        parts: `(soft, hard)`, the weights of soft targets and labels in the course.
        mean: From one value a sample of the course to their weighted mean.
        of_all: From the slope of this device's samples to that of all devices'.

    Returns:
        A scalar. Its value is the exam's cross-entropy whatever the estimator, and its
        gradient with respect to the teacher's weights that of the cross-entropy:
        exactly, or but for the error of the estimator.
    """
    x, labels, teacher = course

    def lesson(weights, teacher):
        return student_loss(speak(weights, x, True), teacher, labels, tau, parts, mean)

    def examined(weights):
        return feedback_loss(speak(weights, exam[0], False), exam[1])

    def ahead(teacher):
        _, slope = autodiff.value_and_input_grad(lambda w: lesson(w, teacher), weights)
        return [w - rate * g for w, g in zip(weights, of_all(slope), strict=True)]

    if estimator == "exact":
        return examined(ahead(teacher))
    # What is dropped at the look-ahead is dropped in the estimate.
    alike = fixed_rng.with_fixed_rng(lambda passes: passes())
    with backend.no_grad():
        moved = alike(lambda: ahead(ops.stop_gradient(teacher)))
        moved = [ops.stop_gradient(w) for w in moved]
        value, direction = autodiff.value_and_input_grad(examined, moved)
        # Of length 1: next to nothing is lost of the difference of two passes, however
        # little the exam has to say.
        direction, size = _normalize_direction(
            [ops.stop_gradient(v) for v in direction]
        )
        estimate = getattr(autodiff, estimator)
        _, rising = alike(
            lambda: estimate(lambda w: speak(w, x, True), weights, direction)
        )
        rising = size * rising
    # Of the course only -<p, log q> couples teacher and student, and of that only
    # -<p, z> / tau: so the derivative of the exam is that of an ordinary loss.
    rising = ops.stop_gradient(ops.cast(rising, "float32"))
    values = ops.sum(ops.exp(soft_log_probs(teacher, tau)) * rising, axis=-1)
    surrogate = rate * parts[0] * tau * mean(values)
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


def student_loss(student, teacher, labels, tau, parts, mean):
    """`soft τ² KL(p ‖ q) + hard CE`, the mean over samples.

    Args:
        student: Logits, `(batch, ..., classes)`.
        teacher: The same.
        labels: Integers, or one number a class; `None` for none.
        tau: The temperature τ of p and q.
        parts: The weights `(soft, hard)`.
        mean: From one value a sample to their weighted mean.
    """
    apart = divergences.kl(soft_log_probs(teacher, tau), soft_log_probs(student, tau))
    soft, hard = parts
    total = soft * tau**2 * mean(apart)
    if labels is None:
        return total
    return total + hard * mean(cross_entropy(student, labels))


def cross_entropy(z, labels):
    """Of each sample."""
    return -ops.sum(to_class_probs(labels, z) * soft_log_probs(z), axis=-1)


def feedback_loss(z, labels):
    """The mean cross-entropy, of what is not masked."""
    values, counted = cross_entropy(z, labels), row_weights(z, mask=get_mask(z))
    if counted is None:
        return ops.mean(values)
    return ops.sum(counted * values) / ops.maximum(ops.sum(counted), 1.0)
