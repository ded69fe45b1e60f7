"""What `explain` returns."""

import dataclasses
from typing import Any

from keras_dtkd.diagnostics import explanation_tables


@dataclasses.dataclass(frozen=True, repr=False)
class Explanation:
    """What a student took from its teacher: numbers, and tables of them.

    `print(explanation)` shows tables of the most notable ones, `to_dict()` is for JSON,
    and `keras_dtkd.plots.explanation` draws it. Shares, rates, probabilities and
    accuracies lie in [0, 1], and are weighted by the sample weights. Numbers of samples
    are not: they count what has a weight above 0 and a label. What cannot be computed,
    such as a share of no samples, is `None`. Classes are numbers from 0.

    Attributes:
        num_samples: Number of samples that count.
        temperature: Temperature of soft labels and gradients.
        class_names: A text for each class.
        overall: A dict over all samples. `samples`; `teacher_accuracy`,
            `student_accuracy`, `agreement` (share with the same prediction);
            `both_right`, `teacher_only`, `student_only`, `both_wrong`, which sum to 1;
            `same_wrong_class`, the share of the latter with the same prediction;
            `teacher_wrong_probability`, `student_wrong_probability`, the mean
            probability of all wrong classes together in the soft labels;
            `soft_label_correlation`, the mean over samples of the Pearson correlation
            of both models' soft labels over the wrong classes, `None` for 2 classes.
        classes: Such a dict for each class of which there are samples, with the class
            (`label`) and, by the mean soft labels, its most probable wrong class:
            `teacher_nearest_class`, `teacher_nearest_probability`, and the student's.
        confusions: A dict for each pair of a true class (`label`) and a wrong class
            (`predicted`) that either model predicts. `teacher_samples`,
            `student_samples`: how many it confuses. `is_frequent`: whether the teacher
            does 5 or more. `teacher_rate`, `student_rate`:
            share of the class. `taken_over_share`: share of the samples that the
            teacher confuses like this which the student confuses likewise.
            `rate_elsewhere`: share of those samples of the class on which the teacher
            is right that the student confuses like this, `None` if the teacher is
            never right. `p_value`: of the difference of both, by a one-sided Fisher's
            exact test on the numbers of samples, times the number of tests
            (Bonferroni); `None` if the pair is not tested, because it is not frequent,
            or the teacher is never right in the class. `is_taken_over`: whether the
            p-value is at most 0.05 and the share at least one half. Frequent pairs are
            first, by the difference of share and rate. A student of labels alone
            repeats some confusions too, on samples that are hard for both models.
        calibration: By `"teacher"` and `"student"`, the expected calibration error
            (`error`), and of each of its bins the `count`, the `correct` samples and
            the summed `confidence`, see `metrics.ExpectedCalibrationError`.
        gradients: Of `KD(temperature)` by the student's logits, a norm for each sample:
            `T · ‖softmax(z_s / T) − softmax(z_t / T)‖`. `mean_norm`; `curve`, two
            lists: fractions of the samples, the largest norms first, and their share of
            the sum of all norms; `top_share`, that of the top 10 %; `top_samples`, a
            dict of each of the 10 samples with the largest share: its `index` in the
            data, `label`, predictions and confidences of both models
            (`teacher_prediction`, ...), `gradient_norm`, and `share` of the sum.
        soft_labels: By `"teacher"` and `"student"`, the mean soft labels of each class,
            NumPy `(classes, classes)`; NaN in the row of a class without samples. Not
            in `to_dict()`.
    """

    num_samples: int
    temperature: float
    class_names: list
    overall: dict
    classes: list
    confusions: list
    calibration: dict
    gradients: dict
    soft_labels: Any

    @property
    def taken_over(self):
        """The `confusions` that count as taken over."""
        return [pair for pair in self.confusions if pair["is_taken_over"]]

    def to_dict(self):
        """Everything but `soft_labels`, for JSON."""
        fields = dataclasses.replace(self, soft_labels=None)
        return {
            name: value
            for name, value in dataclasses.asdict(fields).items()
            if name != "soft_labels"
        }

    def __repr__(self):
        return (
            f"Explanation(num_samples={self.num_samples}, "
            f"agreement={self.overall['agreement']:.4g}, "
            f"taken_over={len(self.taken_over)})"
        )

    def __str__(self):
        return explanation_tables.format_explanation(self)
