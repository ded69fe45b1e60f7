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

    Its gradient reaches the teacher through the logits in `course`, up to the error of
    `estimator`. `forward` computes the student's logits from weights, inputs and
    `training`; `weights` are constants; `course` is `(x, labels or None, teacher
    logits)`, `exam` `(x, labels)`; `loss_weights` are those of soft targets and labels.
    `reduce_mean` takes the mean over samples, `all_reduce_gradient` over devices.
    """
    x, labels, teacher = course
    soft, hard = loss_weights

    def student_loss(weights, teacher):
        student = forward(weights, x, True)
        kl = divergences.kl(soft_log_probs(teacher, tau), soft_log_probs(student, tau))
        total = soft * tau**2 * reduce_mean(kl)
        if labels is not None:
            total = total + hard * reduce_mean(cross_entropy(student, labels))
        return total

    def exam_loss(weights):
        return feedback_loss(forward(weights, exam[0], False), exam[1])

    def lookahead_step(teacher):
        _, slope = autodiff.value_and_input_grad(
            lambda w: student_loss(w, teacher), weights
        )
        slope = all_reduce_gradient(slope)
        return [w - rate * g for w, g in zip(weights, slope, strict=True)]

    if estimator == "exact":
        return exam_loss(lookahead_step(teacher))
    # The estimate drops the units that the look-ahead has dropped.
    with_same_dropout = backend.with_fixed_rng(lambda passes: passes())
    with backend.no_grad():
        moved = with_same_dropout(lambda: lookahead_step(ops.stop_gradient(teacher)))
        moved = [ops.stop_gradient(w) for w in moved]
        value, direction = autodiff.value_and_input_grad(exam_loss, moved)
        # Of length 1: the difference of two passes keeps its digits, however small the
        # exam's gradient.
        direction, size = _normalize_direction(
            [ops.stop_gradient(v) for v in direction]
        )
        estimate = getattr(autodiff, estimator)
        _, slope = with_same_dropout(
            lambda: estimate(lambda w: forward(w, x, True), weights, direction)
        )
        slope = ops.stop_gradient(ops.cast(size * slope, "float32"))
    # Of the course only -<p, log q> couples teacher and student, and of that only
    # -<p, z> / tau: so the derivative of the exam is that of an ordinary loss.
    values = ops.sum(ops.exp(soft_log_probs(teacher, tau)) * slope, axis=-1)
    surrogate = rate * soft * tau * reduce_mean(values)
    return surrogate + ops.stop_gradient(value - surrogate)


def _normalize_direction(direction):
    """The tensors, scaled to a common length of 1, and their length."""
    precise = [ops.cast(v, "float32") for v in direction]
    greatest = ops.max(ops.stack([ops.max(ops.abs(v)) for v in precise]))
    # The squares of a confident student's gradient underflow in float32.
    precise = [v / ops.where(greatest > 0, greatest, 1.0) for v in precise]
    length = ops.sqrt(ops.maximum(sum(ops.sum(v * v) for v in precise), 1e-12))
    dtypes = [v.dtype for v in direction]
    unit = [ops.cast(v / length, d) for v, d in zip(precise, dtypes, strict=True)]
    return unit, length * greatest


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
