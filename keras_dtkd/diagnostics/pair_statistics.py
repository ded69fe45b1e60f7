"""Sums and records of what two classifiers predict, batch by batch."""

import numpy as np
from keras import ops

from keras_dtkd.diagnostics import pair_summary
from keras_dtkd.diagnostics.confusions import find_confusions
from keras_dtkd.diagnostics.explanation import Explanation
from keras_dtkd.diagnostics.pair_summary import ROLES, to_numpy
from keras_dtkd.functional.correlation import pearson, soft_probs
from keras_dtkd.functional.decoupled import non_target_log_probs, target_log_probs
from keras_dtkd.metrics import ExpectedCalibrationError


class PairStatistics:
    """What is measured of two classifiers on labelled samples.

    Per sample it holds a few numbers, and no logits.

    Args:
        num_classes: Number of classes. At least 2.
        temperature: Temperature of soft labels and gradients. Positive.
    """

    def __init__(self, num_classes, temperature=4.0):
        self.temperature = temperature
        self.num_classes = num_classes
        # Sums of soft labels by class.
        shape = (num_classes, num_classes)
        self.soft_labels = {role: np.zeros(shape) for role in ROLES}
        self.calibration = {
            role: ExpectedCalibrationError(from_logits=True) for role in ROLES
        }
        self.records: list = []

    def update(self, teacher_logits, student_logits, label, weights, indices):
        """Adds a batch.

        Args:
            teacher_logits: Float32, `(batch, classes)`.
            student_logits: Float32, `(batch, classes)`.
            label: One-hot, `(batch, classes)`; zeros for a missing label.
            weights: Of the samples, `(batch,)`, or `None`.
            indices: Of the samples in the data, NumPy `(batch,)`.
        """
        teacher_logits, student_logits, label = map(
            ops.convert_to_tensor, (teacher_logits, student_logits, label)
        )
        has_label = to_numpy(label).max(-1) > 0
        weights = np.ones(len(has_label)) if weights is None else to_numpy(weights)
        weights = weights.reshape(-1).astype("float64") * has_label
        counts = weights > 0
        logits = {"teacher": teacher_logits, "student": student_logits}
        for role, z in logits.items():
            _check_finite(role, to_numpy(z)[counts], indices[counts])
            # What does not count may hold NaN, which a weight of 0 would not remove.
            logits[role] = ops.where(ops.convert_to_tensor(counts)[:, None], z, 0.0)
            metric = self.calibration[role]
            metric.update_state(label, logits[role], weights.astype("float32"))
        soft = {r: soft_probs(z, self.temperature) for r, z in logits.items()}
        record = {"index": indices, "label": to_numpy(label).argmax(-1)}
        record["weight"] = weights
        for role, z in logits.items():
            record[role] = to_numpy(z).argmax(-1)
            record[f"{role}_confidence"] = to_numpy(soft_probs(z, 1.0)).max(-1)
            target = target_log_probs(z, self.temperature, label)
            record[f"{role}_wrong_probability"] = np.exp(to_numpy(target)[:, 1])
        record["correlation"] = _correlate_non_targets(logits, self.temperature, label)
        # Of T² KL(p_t ‖ p_s) by the student's logits: T (p_s − p_t).
        difference = to_numpy(soft["student"]) - to_numpy(soft["teacher"])
        norms = np.linalg.norm(difference.astype("float64"), axis=-1)
        record["gradient"] = self.temperature * norms
        record = {name: np.asarray(v)[counts] for name, v in record.items()}
        self.records.append(record)
        for role, p in soft.items():
            weighted = record["weight"][:, None] * to_numpy(p)[counts]
            np.add.at(self.soft_labels[role], record["label"], weighted)

    def summarize(self, class_names):
        """The `Explanation`. A `ValueError` if no sample counts."""
        names = self.records[0] if self.records else {}
        records = {
            name: np.concatenate([record[name] for record in self.records])
            for name in names
        }
        if not len(records.get("label", ())):
            raise ValueError(
                "`explain`: no sample has both a label and a weight above 0."
            )
        labels, weights = records["label"], records["weight"]
        soft_labels = pair_summary.mean_soft_labels(self.soft_labels, labels, weights)
        predictions = records["teacher"], records["student"]
        return Explanation(
            num_samples=len(labels),
            temperature=float(self.temperature),
            class_names=list(class_names),
            overall=pair_summary.summarize_samples(records, self.num_classes),
            classes=pair_summary.summarize_classes(records, soft_labels),
            confusions=find_confusions(labels, *predictions, weights, self.num_classes),
            calibration={
                role: pair_summary.summarize_bins(metric)
                for role, metric in self.calibration.items()
            },
            gradients=pair_summary.summarize_gradients(records),
            soft_labels=soft_labels,
        )


def _check_finite(role, logits, indices):
    broken = indices[~np.isfinite(logits).all(-1)]
    if broken.size:
        raise ValueError(
            f"`explain`: the {role}'s outputs hold NaN or infinity, for "
            f"{broken.size} samples, such as sample {broken[0]}. Check its inputs and "
            "its precision, or give those samples a `sample_weight` of 0."
        )


def _correlate_non_targets(logits, temperature, label):
    """Pearson correlation of the wrong classes' distributions, of each sample."""
    teacher, student = (
        ops.exp(non_target_log_probs(logits[role], temperature, label))
        for role in ROLES
    )
    return to_numpy(pearson(teacher, student, weights=1.0 - label))
