"""What the teacher knows of the labels, and in which order of the classes.

`logits` are NumPy `(samples, classes)`, `labels` `(samples,)`, -1 for a missing label.
"""

import keras
import numpy as np
from keras import ops

from keras_dtkd.core.issue import ERROR, INFO, WARNING, Issue
from keras_dtkd.metrics import ExpectedCalibrationError

# A teacher that is better under another order of classes, or on inputs of another
# scale, by this much accuracy and this many standard errors, was made for those.
MIN_ACCURACY_GAIN = 0.15
NUM_STANDARD_ERRORS = 3.0
# A teacher that knows the classes has a negative log-likelihood (NLL) of at most this
# share of the labels' entropy, unlike a network with random weights.
MAX_NLL_SHARE = 0.7
HIGH_NLL = 0.3  # In nats per label: a good classifier may have as much.
# A network with random weights may be somewhat better than chance. This share of the
# way from chance to certainty counts as nothing, if the NLL is that of a guess.
MIN_CHANCE_MARGIN = 0.1
GUESS_NLL_SHARE = 0.95
# A higher mean area under the ROC curve shows knowledge even of a rare class.
MIN_AUC = 0.75
# Expected calibration error. Networks as they are trained have 0.02 to 0.1.
ECE_THRESHOLD = 0.15
# Of a student over its teacher: less may be a good student that is trained further.
MIN_STUDENT_GAIN = 0.02
MAX_LISTED = 12  # Pairs of classes in a message.


def compute_accuracy(logits, labels):
    """Accuracy over the samples with a label; `None` without any."""
    if labels is None or not (labels >= 0).any():
        return None
    return float((logits.argmax(-1) == labels)[labels >= 0].mean())


def compute_label_statistics(logits, labels):
    """Confidence, and with labels accuracy and calibration error."""
    statistics = {"confidence": float(_softmax(logits).max(-1).mean())}
    accuracy = compute_accuracy(logits, labels)
    if accuracy is None:
        return statistics
    metric = ExpectedCalibrationError(from_logits=True)
    metric.update_state(labels, logits)
    error = float(ops.convert_to_numpy(metric.result()))
    return {"accuracy": accuracy, "calibration_error": error, **statistics}


def _softmax(logits):
    return ops.convert_to_numpy(ops.softmax(ops.convert_to_tensor(logits), axis=-1))


def negative_log_likelihood(logits, labels):
    """Mean `-log p(label)`, in nats, over the samples with a label."""
    logits, labels = logits[labels >= 0], labels[labels >= 0]
    nll = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    return float(ops.mean(nll))


def label_entropy(labels):
    """Entropy of the labels' frequencies, in nats: the NLL of the best guess."""
    share = np.unique(labels[labels >= 0], return_counts=True)[1] / (labels >= 0).sum()
    return -float((share * np.log(share)).sum())


def _majority_share(labels):
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))


def is_significant(gain, num_labels, nll, entropy):
    """Whether a gain in accuracy is not by chance, and the NLL that of knowledge."""
    if not num_labels or not nll <= MAX_NLL_SHARE * entropy:
        return False
    noise = NUM_STANDARD_ERRORS * np.sqrt(0.25 / num_labels)
    return bool(gain >= max(MIN_ACCURACY_GAIN, noise))


def check_teacher_at_chance(logits, labels):
    """A teacher that is no better than guessing."""
    keep = (labels >= 0) & ~np.isnan(logits).any(-1)
    logits, labels = logits[keep], labels[keep]
    if not keep.any() or _is_better_than_guessing(logits, labels):
        return
    message = (
        f"On {len(labels)} labels the teacher's accuracy is "
        f"{compute_accuracy(logits, labels):.1%}, no better than a guess (the most "
        f"frequent class: {_majority_share(labels):.1%})."
    )
    hint = "Check its weights, its classes and their order, and the inputs' scale."
    yield Issue("chance_teacher", ERROR, message, hint)


def _is_better_than_guessing(logits, labels):
    accuracy, chance = compute_accuracy(logits, labels), 1 / logits.shape[-1]
    noise = 2 * np.sqrt(chance * (1 - chance) / len(labels))
    if accuracy <= chance + noise and accuracy < 1:
        return False
    classes, majority = np.unique(labels), _majority_share(labels)
    # Predicting the majority class alone is accurate, but in that class only.
    recalls = [(logits[labels == c].argmax(-1) == c).mean() for c in classes]
    nll = negative_log_likelihood(logits, labels)
    if (
        accuracy > majority + MIN_CHANCE_MARGIN * (1 - majority)
        or np.mean(recalls) > chance + MIN_CHANCE_MARGIN * (1 - chance)
        or nll < GUESS_NLL_SHARE * label_entropy(labels)
    ):
        return True
    probs = _softmax(logits)
    areas = [_area_under_roc(probs[:, c], labels == c) for c in classes if majority < 1]
    return bool(areas) and np.mean(areas) > MIN_AUC


def _area_under_roc(scores, is_positive):
    """How often a positive sample has a higher score than a negative one."""
    positive, negative = scores[is_positive], np.sort(scores[~is_positive])
    below = [np.searchsorted(negative, positive, side) for side in ("left", "right")]
    return np.mean(below) / len(negative)


def check_exchanged(teacher_logits, student_logits, labels):
    """A student that is better than its teacher before it is trained."""
    if labels is None or not (labels >= 0).any():
        return
    right = [
        (z.argmax(-1) == labels)[labels >= 0] for z in (student_logits, teacher_logits)
    ]
    gains = right[0].astype("float64") - right[1]
    noise = NUM_STANDARD_ERRORS * gains.std() / np.sqrt(len(gains))
    if gains.mean() <= max(MIN_STUDENT_GAIN, noise):
        return
    message = (
        f"On {len(gains)} labels the student is right in {right[0].mean():.1%} before "
        f"any training, and the teacher in {right[1].mean():.1%}."
    )
    hint = "Are the two exchanged? It is `Distiller(teacher, student)`."
    yield Issue("better_student", WARNING, message, hint)


def find_label_permutation(logits, labels):
    """The label of each predicted class, and the accuracy under another class order.

    `None` if no order is much better, on samples by which it was not found. Uses SciPy.
    """
    logits, labels = logits[labels >= 0], labels[labels >= 0]
    predicted = logits.argmax(-1)
    # Shuffled, since the halves of a sorted data set hold different classes.
    indices = np.random.default_rng(0).permutation(len(labels))
    first, second = indices[::2], indices[1::2]
    order = _assign_labels(predicted[first], labels[first])
    known = second[np.isin(predicted[second], list(order))]
    # The teacher's class of each label, -1 where it is not known.
    classes = np.full(logits.shape[-1], -1)
    classes[list(order.values())] = list(order)
    renumbered = classes[labels]
    accuracy = float((predicted == renumbered)[known].mean()) if len(known) else 0.0
    # Any order that has the majority class suits a teacher that knows nothing.
    if not accuracy or accuracy <= _majority_share(labels[known]):
        return None
    nll = negative_log_likelihood(logits[known], renumbered[known])
    gain = accuracy - (predicted == labels)[known].mean()
    if not is_significant(gain, len(known), nll, label_entropy(labels[second])):
        return None
    return _assign_labels(predicted, labels), accuracy


def _assign_labels(predicted, labels):
    """The label of each predicted class, no label twice, with most samples right."""
    from scipy.optimize import linear_sum_assignment

    # Only those that occur: a language model has too many for a square matrix.
    rows, row = np.unique(predicted, return_inverse=True)
    columns, column = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(rows), len(columns)), int)
    np.add.at(counts, (row, column), 1)
    pairs = zip(*linear_sum_assignment(counts, maximize=True), strict=True)
    return {int(rows[a]): int(columns[b]) for a, b in pairs if counts[a, b]}


def permutation_issue(permutation, before):
    """The issue for a result of `find_label_permutation`."""
    order, accuracy = permutation
    moved = [f"{a}→{b}" for a, b in sorted(order.items()) if a != b]
    rest = f" and {len(moved) - MAX_LISTED} more" if len(moved) > MAX_LISTED else ""
    message = (
        f"The teacher's accuracy is {before:.1%}, but {accuracy:.1%} with its classes "
        f"in another order (class→label: {', '.join(moved[:MAX_LISTED])}{rest})."
    )
    hint = "Reorder the teacher's outputs, or renumber the labels."
    return Issue("permuted_classes", ERROR, message, hint)


def check_calibration(statistics):
    """A teacher whose confidence is far from its accuracy."""
    error, confidence = statistics.get("calibration_error", 0), statistics["confidence"]
    if error >= ECE_THRESHOLD:
        accuracy = statistics["accuracy"]
        message = (
            f"The teacher's confidence is {confidence:.1%}, at {accuracy:.1%} accuracy."
        )
        hint = f"Try a {'higher' if confidence > accuracy else 'lower'} temperature."
        yield Issue("calibration", INFO, message, hint)
