"""Inputs of a scale that the teacher was not made for."""

import keras
import numpy as np
from keras import ops

from keras_dtkd import backend
from keras_dtkd.core import logits
from keras_dtkd.core.compiled_loss import distilled_labels
from keras_dtkd.diagnostics import first_layer_inputs
from keras_dtkd.diagnostics.teacher_quality import KNOWS, convincing
from keras_dtkd.functional.labels import one_hot
from keras_dtkd.validation.issue import ERROR, Issue


def _from_to(low, high):
    """Takes what lies between the least and the greatest value to these."""

    def scaled(x, least, most):
        return low + (x - least) * ((high - low) / (most - least))

    return scaled


# What images mostly are, or become by a rescaling too few or too many.
SCALINGS = {
    "multiplied by 255": lambda x, least, most: x * 255.0,
    "divided by 255": lambda x, least, most: x / 255.0,
    "scaled to [0, 1]": _from_to(0.0, 1.0),
    "scaled to [-1, 1]": _from_to(-1.0, 1.0),
    "scaled to [0, 255]": _from_to(0.0, 255.0),
}
# Of those of its own layers.
UNDONE = "taken back to what they were before a scaling like the teacher's own"
# A scaling that leaves no more than this share of the surprise at the labels is the
# right one, even where the teacher chose right before: its confidence was off by
# orders of magnitude. One that was as unsure as a guess must become sure; one that was
# too sure may be so by overfitting, which costs some nats, but no hundred.
SURPRISE, TOO_SURE = 0.3, 0.02
# Up to this share of the nats of a guess a teacher is unsure, and no more.
UNSURE = 1.1
# Labels that tell so much.
FEW = 30


def better(made, samples, before, surprise, unknown):
    """The scaling of the inputs under which the teacher is much better.

    Args:
        made: The Distiller.
        samples: Of `keras_dtkd.preparation.data_peek.Sample`, with labels.
        before: The teacher's accuracy on them.
        surprise: Its mean `-log p` of their labels.
        unknown: The labels' entropy.

    Returns:
        `(name, accuracy)`, or `None`. Among scalings the best is that under which the
        labels are the least surprise: networks may choose alike on any scale, but are
        as certain as they should be on their own only.
    """
    if made.teacher_reference.teacher.needs_sample_ids:
        # What is stored does not depend on the inputs.
        return None
    speak, found, count = backend.compiled_teacher_forward(made.teacher_reference.teacher), {}, 0.0
    for name, scale in _scalings(made, samples).items():
        right = count = nats = 0.0
        for sample in samples:
            ok, known, bits = _judged(made, speak(scale(sample.x)), sample.y)
            right, count, nats = right + ok, count + known, nats + bits
        found[name] = nats / max(count, 1), right / max(count, 1)
    if not found:
        return None
    best = min(found, key=lambda name: found[name][0])
    nats, right = found[best]
    share = SURPRISE if surprise <= UNSURE * unknown else TOO_SURE
    certain = nats <= min(share * surprise, KNOWS * unknown)
    if certain and right >= before and count >= FEW:
        return best, right
    return (best, right) if convincing(right - before, count, nats, unknown) else None


def _scalings(made, samples):
    """Functions of a sample's inputs that scale those that have a scale, by name."""
    leaves = list(
        zip(*(keras.tree.flatten(sample.x) for sample in samples), strict=True)
    )
    ranges = [_range(parts) for parts in leaves]
    if not any(ranges):
        return {}

    def all_by(scale):
        return lambda x: keras.tree.pack_sequence_as(
            x,
            [
                ops.convert_to_tensor(
                    scale(leaf.astype("float32"), *ends) if ends else leaf
                )
                for leaf, ends in zip(keras.tree.flatten(x), ranges, strict=True)
            ],
        )

    found = {name: all_by(scale) for name, scale in SCALINGS.items()}
    undo = first_layer_inputs.undo(made, leaves[0][0]) if len(leaves) == 1 else None
    if undo is not None:
        found[UNDONE] = all_by(lambda x, least, most: undo(x))
    return found


def _range(parts):
    """Least and greatest value of an input, or `None`: tokens have no scale."""
    if not all(_measured(part) for part in parts):
        return None
    least = min(float(part.min()) for part in parts)
    most = max(float(part.max()) for part in parts)
    return (least, most) if least < most and np.isfinite([least, most]).all() else None


def _measured(array):
    return np.issubdtype(array.dtype, np.floating) or array.dtype == np.uint8


def _judged(made, outputs, y):
    """How many labelled rows are right, how many there are, their sum of `-log p`."""
    names = getattr(made.teacher_reference.teacher, "output_names", None)
    model = getattr(made.teacher_reference.teacher, "model", None)
    names = getattr(model, "output_names", names)
    z = logits.to_logits(
        logits.select_output(outputs, made.distilled_output, names), made.output_kinds[1]
    )
    label = one_hot(distilled_labels(made, y), z)
    agree = ops.take_along_axis(label, ops.argmax(z, axis=-1)[..., None], axis=-1)
    nats = -ops.sum(label * ops.where(label > 0, ops.log_softmax(z, axis=-1), 0.0))
    return float(ops.sum(agree)), float(ops.sum(label)), float(nats)


def scaled(found, before):
    """The finding for a scaling that is `better`."""
    name, right = found
    return Issue(
        "inputs_scaled",
        ERROR,
        f"With the inputs as they are the teacher is right in {before:.1%}; {name}, in "
        f"{right:.1%}, and only so as sure as it should be. They reach it on another "
        "scale than it was trained with. Look for a "
        "rescaling done twice (in the data and in a `Rescaling` or `Normalization` "
        "layer of the model), or not at all.",
    )
