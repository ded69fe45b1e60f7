"""What the teacher knows of the labels, and in which order of the classes."""

import warnings

import numpy as np
from keras import ops

from keras_dtkd.metrics import ExpectedCalibrationError
from keras_dtkd.validation import models
from keras_dtkd.validation.issue import ERROR, INFO, Issue

# So much more often must a teacher be right under another order of classes, or on
# inputs of another scale, to be thought to have been made for it.
GAIN = 0.15
# And so many standard errors more often: a few samples say little.
ERRORS = 3.0
# A mean gap between confidence and accuracy that is worth a word. Networks as they
# are trained have 0.02 to 0.1.
UNCALIBRATED = 0.15
# A network with random weights chooses by the inputs too, and may be right somewhat
# more often than by chance. This share of the way from chance to certainty is nothing,
# if the labels surprise it as much as one who knows how frequent they are.
NO_WAY = 0.1
AS_A_GUESS = 0.95
# A teacher that puts a sample of a class before another so often knows something, even
# if it hardly ever names a rare class. Chance is one half.
RANKS = 0.75
# A teacher that knows the classes is surprised by a label this share of the nats that
# one who knows how frequent they are is, or less. A network with random weights is
# not, though some order of its classes always suits it.
KNOWS = 0.7
# Nats a label that a good classifier may need; above it, a look at other scales pays.
SURPRISED = 0.3
# As many pairs of classes as a reader will read.
SHOWN = 12


def accuracy(logits, labels):
    """Share of labelled rows whose first choice is the label; `None` without any.

    Args:
        logits: NumPy, `(rows, classes)`.
        labels: `(rows,)`, -1 where there is none; or `None`.
    """
    if labels is None or not (labels >= 0).any():
        return None
    return float((logits.argmax(-1) == labels)[labels >= 0].mean())


def figures(logits, labels):
    """Accuracy, calibration error and confidence, of those that can be known."""
    found = {"confidence": float(_softmax(logits).max(-1).mean())}
    right = accuracy(logits, labels)
    if right is not None:
        metric = ExpectedCalibrationError(from_logits=True)
        metric.update_state(labels, logits)
        error = float(ops.convert_to_numpy(metric.result()))
        found = {"accuracy": right, "calibration_error": error, **found}
    return found


def surprise(logits, labels):
    """Mean `-log p` of the labels, in nats, over labelled rows."""
    keep = labels >= 0
    z = ops.log_softmax(ops.convert_to_tensor(logits[keep]), axis=-1)
    z = ops.convert_to_numpy(z)
    return -float(np.take_along_axis(z, labels[keep][:, None], axis=-1).mean())


def entropy(labels):
    """Nats that the labels' frequencies alone leave open. See `surprise`."""
    _, counts = np.unique(labels[labels >= 0], return_counts=True)
    share = counts / counts.sum()
    return -float((share * np.log(share)).sum())


def convincing(gain, count, nats, unknown):
    """Whether so much higher an accuracy on so many rows is no chance.

    Args:
        gain: By how much it is higher.
        count: On so many rows.
        nats: Mean surprise at their labels then.
        unknown: The labels' `entropy`.
    """
    enough = count > 0 and gain >= max(GAIN, ERRORS * np.sqrt(0.25 / count))
    return bool(enough and nats <= KNOWS * unknown)


def chance(logits, labels):
    """A finding of a teacher no better than guessing, or none."""
    keep = labels >= 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        models.warn_teacher_at_chance(logits[keep], labels[keep])
    if caught:
        return [Issue("chance_teacher", ERROR, str(caught[0].message))]
    guess, most = 1 / logits.shape[-1], _majority(labels[keep])
    right, nats = accuracy(logits, labels), surprise(logits, labels)
    # One who always names the most frequent class is right often, but in few classes.
    each = [accuracy(logits[rows], labels[rows]) for rows in _by_class(labels)]
    knows = (
        right > most + NO_WAY * (1 - most)
        or np.mean(each) > guess + NO_WAY * (1 - guess)
        or nats < AS_A_GUESS * entropy(labels)
        or _ranks(logits[keep], labels[keep]) > RANKS
    )
    if knows:
        return []
    return [
        Issue(
            "chance_teacher",
            ERROR,
            f"On {keep.sum()} labels the teacher is right in {right:.1%}, and as "
            f"surprised by them ({nats:.2f} nats) as one who guesses. Who always names "
            f"the most frequent class is right in {most:.1%}. Has the teacher been "
            "trained, or were its weights not loaded?",
        )
    ]


def _ranks(logits, labels):
    """Mean area under the ROC curve of each class against the others."""
    p, areas = _softmax(logits), []
    for label in np.unique(labels):
        own, others = p[labels == label, label], np.sort(p[labels != label, label])
        if len(others):
            below = [np.searchsorted(others, own, side) for side in ("left", "right")]
            areas.append(np.mean(below) / len(others))
    return np.mean(areas) if areas else 0.0


def _by_class(labels):
    return [labels == label for label in np.unique(labels[labels >= 0])]


def _majority(labels):
    """The share of the most frequent one."""
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))


def permutation(logits, labels):
    """Another order of the teacher's classes under which it is much better.

    Found on half of the rows, by the label that each predicted class mostly has, no
    label twice; judged on the other half, since a guess always fits what it was made
    from.

    Args:
        logits: The teacher's, `(rows, classes)`.
        labels: `(rows,)`.

    Returns:
        `(order, accuracy)`: the label of each predicted class by its number, where
        there is one, and how often it is right on rows it was not made from; or `None`.
    """
    keep = labels >= 0
    logits, labels = logits[keep], labels[keep]
    predicted = logits.argmax(-1)
    # Rows of a sorted data set must not be split by their class.
    rows = np.random.default_rng(0).permutation(len(labels))
    made, judged = rows[::2], rows[1::2]
    order = _order(predicted[made], labels[made])
    known = np.array([row for row in judged if predicted[row] in order], int)
    if not len(known):
        return None
    right = np.mean([order[predicted[row]] == labels[row] for row in known])
    before = np.mean(predicted[known] == labels[known])
    # The teacher's number of each label.
    numbers = {label: number for number, label in order.items()}
    told = np.array([row for row in known if labels[row] in numbers], int)
    renamed = np.array([numbers[labels[row]] for row in told], int)
    nats = surprise(logits[told], renamed) if len(told) else np.inf
    # Any order that names the most frequent class suits a teacher that knows nothing.
    if right <= _majority(labels[known]):
        return None
    if not convincing(right - before, len(known), nats, entropy(labels[judged])):
        return None
    return _order(predicted, labels), float(right)


def _order(predicted, labels):
    """The most frequent pairs first, each class and each label once."""
    pairs, counts = np.unique(np.stack([predicted, labels]), axis=1, return_counts=True)
    order: dict[int, int] = {}
    for i in np.argsort(-counts, kind="stable"):
        one, other = (int(value) for value in pairs[:, i])
        if one not in order and other not in order.values():
            order[one] = other
    return order


def permuted(found, before):
    """The finding for a `permutation`."""
    order, right = found
    moved = [f"{a}→{b}" for a, b in sorted(order.items()) if a != b]
    rest = f" and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
    return Issue(
        "permuted_classes",
        ERROR,
        f"The teacher is right in {before:.1%}, but in {right:.1%} if its classes "
        f"are taken in another order (teacher's class→label: "
        f"{', '.join(moved[:SHOWN])}{rest}). Reorder the teacher's outputs or renumber "
        "the labels: both must mean the same classes.",
    )


def calibration(found):
    """A note of a teacher whose confidence says little."""
    error = found.get("calibration_error", 0.0)
    if error < UNCALIBRATED:
        return []
    over = found["confidence"] > found["accuracy"]
    remedy = "a higher" if over else "a lower"
    return [
        Issue(
            "calibration",
            INFO,
            f"The teacher's confidence ({found['confidence']:.1%}) is far from its "
            f"accuracy ({found['accuracy']:.1%}): calibration error {error:.3f}. Try "
            f"{remedy} temperature.",
        )
    ]


def _softmax(logits):
    return ops.convert_to_numpy(ops.softmax(ops.convert_to_tensor(logits), axis=-1))
