"""How a loss pulls at the student's logits."""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_dtkd import backend
from keras_dtkd.core import logits
from keras_dtkd.core.masking import MaskPreserving
from keras_dtkd.functional.labels import one_hot
from keras_dtkd.held import flag

# What is left of a gradient of this share is its rounding.
NOISE = 1e-3


def swapped(outputs, new):
    """Other numbers in the place of these."""
    return new


# The mask of what was there before stays with it.
_SWAPPED = MaskPreserving(swapped)


def of_loss(made, loss, step):
    """The gradient of a loss's mean, without its weight.

    Args:
        made: The Distiller.
        loss: A `DistillationLoss`.
        step: What it is given.

    Returns:
        NumPy, of the shape of `step.student_logits`. A row's is divided by the number
        of rows, so that the norms of all rows add up to their mean.
    """

    def value(z):
        given = dataclasses.replace(
            step,
            student_logits=_SWAPPED(step.student_logits, new=z),
            student_outputs=_outputs(made, step, z),
        )
        return loss.reduce(loss.compute(given), _picked(made, step))

    return _both(value, step)[1]


def of_task(made, batch, step):
    """The task loss on a batch, and its gradient. See `of_loss`.

    Args:
        made: The Distiller, compiled.
        batch: The `Batch`.
        step: That of a loss on the batch itself.

    Returns:
        `(value, gradient)`.
    """

    def value(z):
        with flag(made.held, "only_task_loss"):
            return made.compute_loss(
                batch.x, batch.y, _outputs(made, step, z), training=False
            )

    return _both(value, step)


def _both(function, step):
    # Nothing that a loss might assign lasts.
    with keras.StatelessScope():
        value, gradient = backend.value_and_grad(
            lambda z: ops.cast(function(z), "float32"), step.student_logits
        )
    return float(value), np.asarray(ops.convert_to_numpy(gradient), "float32")


def size(gradients):
    """Mean norm of a sample's gradient, over batches.

    Args:
        gradients: A list, as `of_loss` gives them.

    Returns:
        A float.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        sums = [np.sqrt((g.astype("float64") ** 2).sum(-1)).sum() for g in gradients]
    return float(np.mean(sums))


def match(own, reference):
    """Cosine of two gradients, and how large the first is along the second.

    Args:
        own: A list, one a batch.
        reference: Likewise.

    Returns:
        `(cosine, share)`, 0 where one of them is nothing.
    """
    one, other = (
        np.concatenate([np.ravel(part) for part in side]) for side in (own, reference)
    )
    product, square = float(one @ other), float(other @ other)
    size = float(np.linalg.norm(one))
    if not square or not size:
        return 0.0, 0.0
    return product / (size * np.sqrt(square)), product / square


def towards_labels(step):
    """How the labels' cross-entropy pulls, but for its size.

    Args:
        step: What a loss is given.

    Returns:
        NumPy, of the shape of `step.student_logits`. 0 where there is no label.
    """
    z = step.student_logits
    if step.y is None:
        return np.zeros(z.shape)
    label = one_hot(step.y, z)
    known = ops.max(label, axis=-1, keepdims=True)
    pull = ops.convert_to_numpy((ops.softmax(z, axis=-1) - label) * known)
    return np.asarray(pull, "float64")


def rest(pulls, tasks):
    """Gradients without what they have of the labels': many losses are a sum of both.

    Args:
        pulls: Gradients, one a batch.
        tasks: What `towards_labels` gives for the first of them.

    Returns:
        A list, one for each of `tasks`.
    """
    return [_beside(*both) for both in zip(pulls[: len(tasks)], tasks, strict=True)]


def _beside(pull, task):
    pull = pull.astype("float64")
    # Masked positions pull at nothing.
    task = np.where(pull.any(-1, keepdims=True), task, 0.0)
    square = (task * task).sum()
    rest = pull - task * ((pull * task).sum() / square) if square else pull
    # What is left by rounding is nothing.
    enough = np.linalg.norm(rest) > NOISE * np.linalg.norm(pull)
    return rest if enough else np.zeros_like(rest)


def _picked(made, step):
    names = getattr(made.student, "output_names", None)
    return logits.select_output(step.student_outputs, made.distilled_output, names)


def _outputs(made, step, z):
    """What the student would have returned for these logits."""
    picked = _picked(made, step)
    output = _SWAPPED(picked, new=_output(z, made.output_kinds[0], picked))
    return keras.tree.map_structure(
        lambda value: output if value is picked else value, step.student_outputs
    )


def _output(z, head, like):
    """The inverse of `logits.recover`."""
    if head == logits.LOGITS:
        return z
    if head == logits.SOFTMAX:
        return ops.softmax(z, axis=-1)
    yes = z[..., 1] - z[..., 0]
    yes = yes[..., None] if like.shape[-1] == 1 else yes
    return ops.sigmoid(yes) if head == logits.SIGMOID else yes
