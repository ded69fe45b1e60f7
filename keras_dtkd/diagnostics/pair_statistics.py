"""Sums and records of what two classifiers predict, batch by batch."""

import numpy as np
from keras import ops

from keras_dtkd.core import arrays
from keras_dtkd.diagnostics import pair_summary
from keras_dtkd.diagnostics.confusions import find_confusions
from keras_dtkd.diagnostics.explanation import Explanation
from keras_dtkd.diagnostics.pair_summary import ROLES
from keras_dtkd.functional.correlation import pearson, soft_probs
from keras_dtkd.functional.decoupled import non_target_log_probs, target_log_probs
from keras_dtkd.functional.labels import one_hot
from keras_dtkd.functional.norms import squared_norm
from keras_dtkd.metrics import ExpectedCalibrationError
from keras_dtkd.teachers.forward import compile_on_jax


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
        self.states = {
            role: [variable.value for variable in metric.variables]
            for role, metric in self.calibration.items()
        }
        self.records: list = []
        self._measure = compile_on_jax([], self._measure_batch)

    def update(self, teacher_logits, student_logits, labels, weights, indices):
        """Adds a batch.

        Args:
            teacher_logits: Float32, `(batch, classes)`.
            student_logits: Float32, `(batch, classes)`.
            labels: Of any form that `functional.labels.one_hot` takes.
            weights: Of the samples, `(batch,)`, or `None`.
            indices: Of the samples in the data, NumPy `(batch,)`.
        """
        if weights is None:
            weights = np.ones(len(indices))
        weights = np.reshape(arrays.to_numpy(weights), -1).astype("float32")
        batch = teacher_logits, student_logits, labels, weights
        tensors = map(ops.convert_to_tensor, batch)
        measured, soft, is_finite, self.states = self._measure(*tensors, self.states)
        record = {
            name: ops.convert_to_numpy(values) for name, values in measured.items()
        }
        counts = record["weight"] > 0
        for role in ROLES:
            _check_finite(
                role, ops.convert_to_numpy(is_finite[role])[counts], indices[counts]
            )
        record = {name: values[counts] for name, values in record.items()}
        record["index"] = indices[counts]
        for name in ("weight", "gradient"):
            record[name] = record[name].astype("float64")
        self.records.append(record)
        for role, p in soft.items():
            weighted = record["weight"][:, None] * ops.convert_to_numpy(p)[counts]
            np.add.at(self.soft_labels[role], record["label"], weighted)

    def _measure_batch(self, teacher_logits, student_logits, labels, weights, states):
        """Numbers of each sample, its soft labels, and the sums of the metrics."""
        label = one_hot(labels, student_logits)
        weights = weights * ops.max(label, axis=-1)
        logits = {"teacher": teacher_logits, "student": student_logits}
        is_finite = {r: ops.all(ops.isfinite(z), axis=-1) for r, z in logits.items()}
        # What does not count may hold NaN, which a weight of 0 would not remove.
        counts = ops.expand_dims(weights > 0, -1)
        logits = {r: ops.where(counts, z, 0.0) for r, z in logits.items()}
        soft = {r: soft_probs(z, self.temperature) for r, z in logits.items()}
        record = {"label": ops.argmax(label, axis=-1), "weight": weights}
        new_states = {}
        for role, z in logits.items():
            new_states[role] = self.calibration[role].stateless_update_state(
                states[role], label, z, sample_weight=weights
            )
            record[role] = ops.argmax(z, axis=-1)
            record[f"{role}_confidence"] = ops.max(soft_probs(z, 1.0), axis=-1)
            log_target = target_log_probs(z, self.temperature, label)
            record[f"{role}_wrong_probability"] = ops.exp(log_target[..., 1])
        record["correlation"] = _correlate_non_targets(logits, self.temperature, label)
        # Of T² KL(p_t ‖ p_s) by the student's logits: T (p_s − p_t).
        difference = self.temperature * (soft["student"] - soft["teacher"])
        record["gradient"] = ops.sqrt(squared_norm(difference))
        return record, soft, is_finite, new_states

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
                role: pair_summary.summarize_bins(metric, self.states[role])
                for role, metric in self.calibration.items()
            },
            gradients=pair_summary.summarize_gradients(records),
            soft_labels=soft_labels,
        )


def _check_finite(role, is_finite, indices):
    broken = indices[~is_finite]
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
    return pearson(teacher, student, weights=1.0 - label)
