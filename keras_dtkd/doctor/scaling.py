"""Inputs of a scale that the teacher was not made for."""

import keras
import numpy as np
from keras import ops

from keras_dtkd import backend, logits
from keras_dtkd.doctor.findings import ERROR, Finding
from keras_dtkd.doctor.knowledge import convincing
from keras_dtkd.functional.labels import one_hot


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
# A scaling that leaves no more than this share of the surprise at the labels is the
# right one, even where the teacher chose right before: its confidence was off by
# orders of magnitude.
SURPRISE = 0.3
# Labels that tell so much.
FEW = 30


def better(made, samples, before, surprise, classes):
    """The scaling of the inputs under which the teacher is much better.

    Args:
        made: The Distiller.
        samples: Of `keras_dtkd.data.Sample`, with labels.
        before: The teacher's accuracy on them.
        surprise: Its mean `-log p` of their labels.
        classes: How many there are.

    Returns:
        `(name, accuracy)`, or `None`. Among scalings the best is that under which the
        labels are the least surprise: networks may choose alike on any scale, but are
        as certain as they should be on their own only.
    """
    leaves = [keras.tree.flatten(sample.x) for sample in samples]
    # One array of numbers; of several, nobody knows which one is meant, and tokens
    # have no scale.
    if any(len(leaf) > 1 or not _measured(leaf[0]) for leaf in leaves):
        return None
    least = min(float(leaf[0].min()) for leaf in leaves)
    most = max(float(leaf[0].max()) for leaf in leaves)
    if not least < most or not np.isfinite([least, most]).all():
        return None
    speak, found, count = backend.speaker(made.held.teacher), {}, 0.0
    for name, scale in SCALINGS.items():
        right = count = nats = 0.0
        for sample in samples:
            x = keras.tree.map_structure(
                lambda a: ops.convert_to_tensor(
                    scale(a.astype("float32"), least, most)  # noqa: B023
                ),
                sample.x,
            )
            ok, known, bits = _judged(made, speak(x), sample.y)
            right, count, nats = right + ok, count + known, nats + bits
        found[name] = nats / max(count, 1), right / max(count, 1)
    best = min(found, key=lambda name: found[name][0])
    nats, right = found[best]
    certain = right >= before and nats <= surprise * SURPRISE and count >= FEW
    if certain or convincing(right - before, count, nats, classes):
        return best, right
    return None


def _measured(array):
    return np.issubdtype(array.dtype, np.floating) or array.dtype == np.uint8


def _judged(made, outputs, y):
    """How many labelled rows are right, how many there are, their sum of `-log p`."""
    names = getattr(made.held.teacher, "output_names", None)
    model = getattr(made.held.teacher, "model", None)
    names = getattr(model, "output_names", names)
    z = logits.recover(logits.pick(outputs, made.output_key, names), made.held.heads[1])
    label = one_hot(_of_output(made, y), z)
    agree = ops.take_along_axis(label, ops.argmax(z, axis=-1)[..., None], axis=-1)
    nats = -ops.sum(label * ops.where(label > 0, ops.log_softmax(z, axis=-1), 0.0))
    return float(ops.sum(agree)), float(ops.sum(label)), float(nats)


def _of_output(made, y):
    """The labels of the distilled output."""
    if not isinstance(y, dict | list | tuple):
        return y
    return logits.pick(y, made.output_key, getattr(made.student, "output_names", None))


def scaled(found, before):
    """The finding for a scaling that is `better`."""
    name, right = found
    return Finding(
        "inputs_scaled",
        ERROR,
        f"The teacher is right in {before:.1%}, but in {right:.1%}, and as sure as it "
        f"should be, if the inputs are {name}. They reach it on another scale than it "
        "was trained with. Look for a "
        "rescaling done twice (in the data and in a `Rescaling` or `Normalization` "
        "layer of the model), or not at all.",
    )
