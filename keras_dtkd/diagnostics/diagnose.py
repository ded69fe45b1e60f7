"""Diagnosis of a teacher, a student and their data before training."""

from keras_dtkd.core.issue import INFO, Issue
from keras_dtkd.diagnostics import (
    input_scaling,
    logit_ranges,
    loss_gradients,
    probe,
    sampling,
    teacher_quality,
)
from keras_dtkd.diagnostics.report import ROLES, Report
from keras_dtkd.diagnostics.teacher_quality import MIN_ACCURACY_GAIN
from keras_dtkd.distiller import Distiller
from keras_dtkd.preparation import text
from keras_dtkd.teachers.inputs import read_sample
from keras_dtkd.teachers.sample_ids import model_inputs


def diagnose(
    teacher,
    student,
    data,
    distillation_losses=None,
    *,
    from_logits="auto",
    output=None,
    batches=4,
    views=None,
    teacher_inputs=None,
    verbose=1,
):
    """Evaluates a few batches as a Distiller would, and reports what is wrong.

    Nothing is trained: weights, random states, statistics, optimizers and flags of
    both models stay as they are, bit for bit. Models and losses that are not built are
    built, as `fit` would do.

    Issues, by code (the hint of each says what to do):

    - Every error that `fit` would raise, such as `different_classes`,
      `missing_labels`, `invalid_labels` or `no_trainable_weights`, and every issue of a
      loss, temperature, view or teacher. After an error nothing is measured, unless
      `from_logits` alone is wrong.
    - `probabilities_as_logits`, `logits_as_probabilities`: a model's outputs, or the
      loss that the student was compiled with.
    - `permuted_classes`, `inputs_scaled` (by 255 or 1/255), `chance_teacher`: the most
      likely reason for a teacher's low accuracy. `calibration`: its confidence.
    - `input_ranges`: one model rescales its inputs and the other does not.
      `nan_inputs`: NaN in the data.
    - `zero_gradient`, `not_finite`, `unbalanced`: of a loss. `not_measured`: a loss
      that does not act through the logits, in which gradients are taken.
    - `dtkd_invalid`, `dtkd_degenerate`: DTKD's published rule, where a loss in use
      depends on it. `uncentered_logits`, `logit_overflow`.
    - `not_checked`: a check that needs SciPy, which is not installed.

    Args:
        teacher: As for `Distiller`.
        student: As for `Distiller`. The task loss is what it was compiled with, else
            the cross-entropy that fits the labels.
        data: A tuple `(x, y, sample_weight)`, `(x, y)` or `(x,)` of arrays, or an
            iterable of batches that `fit` takes; text too, where the student has a
            preprocessor. What has a weight of 0 counts nowhere.
            An iterator loses the batches that are used.
        distillation_losses: As for `Distiller`, at their full weight.
        from_logits: As for `Distiller`.
        output: As for `Distiller`.
        batches: Number of batches; of arrays, 64 samples each.
        views: As for `Distiller`.
        teacher_inputs: As for `Distiller`.
        verbose: Whether to print the report.

    Returns:
        A `keras_dtkd.diagnostics.Report`.

    Raises:
        TypeError: An argument is not a model, or not a loss.
        ValueError: Arguments contradict each other, or there is no data.

    Example:

    >>> report = keras_dtkd.diagnose(teacher, student, (x_train, y_train), KD())
    >>> report.is_healthy, report["teacher"]["accuracy"]
    """
    options = {"from_logits": from_logits, "output": output, "views": views}
    options["teacher_inputs"] = teacher_inputs
    distiller = Distiller(teacher, student, distillation_losses, **options)
    data = text.preprocess_data(distiller, data)
    samples = sampling.sample_batches(
        data, batches, distiller.teacher_reference.teacher
    )
    report = Report(*_run_diagnostics(distiller, samples))
    if verbose:
        print(report)
    return report


def _run_diagnostics(distiller, samples):
    statistics: dict = {"data": {"batches": float(len(samples))}}
    issues, is_valid = probe.run_validation(distiller, samples)
    if is_valid and not distiller.output_specs.has_classes:
        message = "Nothing is measured: `diagnose` compares outputs of classes alone."
        return statistics, [*issues, Issue("not_measured", INFO, message)]
    if not is_valid:
        return statistics, issues
    evaluation = probe.evaluate_batches(distiller, samples)
    logits, labels, batches = evaluation.logits, evaluation.labels, evaluation.batches
    inputs, losses = [model_inputs(s.x) for s in samples], distiller.distillation_losses

    num_samples, num_classes = map(float, logits["student"].shape)
    statistics["data"] |= {"samples": num_samples, "classes": num_classes}
    models = evaluation.models
    teacher = distiller.teacher_reference.teacher
    teacher_inputs = [read_sample(teacher, s.x)[0] for s in samples]
    statistics["inputs"] = input_scaling.compute_input_statistics(
        models, inputs, teacher_inputs
    )
    for role in ROLES:
        statistics[role] = {
            **teacher_quality.compute_label_statistics(logits[role], labels),
            "logits": logit_ranges.compute_logit_statistics(logits[role]),
        }
    agrees = logits["student"].argmax(-1) == logits["teacher"].argmax(-1)
    statistics["agreement"] = float(agrees.mean())
    statistics["dtkd"] = logit_ranges.compute_dtkd_statistics(logits, losses)
    statistics.update(loss_gradients.measure_losses(losses, batches))

    issues += input_scaling.check_nan_inputs(inputs, logits)
    quality_issues = _explain_low_accuracy(evaluation, samples)
    issues += quality_issues or teacher_quality.check_calibration(statistics["teacher"])
    if {issue.code for issue in quality_issues} <= {"chance_teacher", "not_checked"}:
        issues += teacher_quality.check_exchanged(
            logits["teacher"], logits["student"], labels
        )
    if all(issue.code != "inputs_scaled" for issue in issues):
        accuracies = {role: statistics[role].get("accuracy", 0.0) for role in ROLES}
        accurate = [r for r in ROLES if accuracies[r] + MIN_ACCURACY_GAIN > 1]
        issues += input_scaling.check_input_ranges(statistics["inputs"], accurate)
    for role in ROLES:
        ranges = statistics[role]["logits"]
        issues += logit_ranges.check_logits(role, evaluation, ranges, losses)
    issues += logit_ranges.check_dtkd_rule(statistics["dtkd"], losses)
    has_labels = labels is not None and bool((labels >= 0).any())
    for name, loss in losses.items():
        measured = statistics["losses"][name]
        issues += loss_gradients.check_loss(name, loss, measured, batches, has_labels)
    return statistics, issues


def _explain_low_accuracy(evaluation, samples):
    """The most likely reason for a teacher's low accuracy on the labels."""
    logits, labels = evaluation.logits["teacher"], evaluation.labels
    accuracy = teacher_quality.compute_accuracy(logits, labels)
    if accuracy is None:
        return []
    issues, permutation, scaling = [], None, None
    nll = teacher_quality.negative_log_likelihood(logits, labels)
    # An accurate and confident teacher cannot become much better.
    if accuracy + MIN_ACCURACY_GAIN <= 1 or nll > teacher_quality.HIGH_NLL:
        try:
            permutation = teacher_quality.find_label_permutation(logits, labels)
        except ImportError:
            message = "`permuted_classes` is not checked: `scipy` is not installed."
            issues = [Issue("not_checked", INFO, message, "pip install scipy")]
        scaling = input_scaling.find_better_scaling(
            evaluation.teacher_logits, [sample.x for sample in samples], logits, labels
        )
    if scaling and (not permutation or scaling[1] >= permutation[1]):
        return [*issues, input_scaling.scaling_issue(scaling, accuracy)]
    if permutation:
        return [teacher_quality.permutation_issue(permutation, accuracy)]
    return [*issues, *teacher_quality.check_teacher_at_chance(logits, labels)]
