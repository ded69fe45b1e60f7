"""A look at teacher, student and data before any training."""

import keras
import numpy as np

from keras_dtkd.diagnostics import (
    dynamic,
    input_ranges,
    input_scaling,
    logit_ranges,
    looking,
    squared,
    teacher_quality,
    terms,
)
from keras_dtkd.diagnostics.evaluate_batches import hear
from keras_dtkd.diagnostics.report import Report
from keras_dtkd.diagnostics.samples import gather
from keras_dtkd.teachers.sample_ids import add_sample_ids
from keras_dtkd.validation import labels as label_checks


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
    verbose=1,
):
    """Looks at a few batches as a Distiller would, and says what is wrong.

    Nothing is trained: weights, random states, statistics, optimizers and flags of
    both models stay as they are, in every bit. A model that is not built is built, as
    `fit` would do, and so are losses.

    Findings, by name (what each asks to be done stands in its message):

    - `probabilities_as_logits`, `logits_as_probabilities`: of a model, or of the loss
      that the student was compiled with.
    - `permuted_classes`, `inputs_scaled`, `chance_teacher`: why a teacher is poor on
      the labels. Only the likeliest of them is told, and none where the labels do not
      fit.
    - `nan_inputs`: NaN in the data; `refused` where the first outputs are NaN too.
    - `input_ranges`: one model rescales its inputs and the other does not.
    - `t_squared_forgotten`, `zero_gradient`, `not_finite`, `unbalanced`: of a loss.
      `not_measured`: one that acts past the logits, at which gradients are taken.
    - `dtkd_invalid`, `dtkd_degenerate`: DTKD's published rule on these logits, where
      a loss in use depends on it. (The report's figures have it in any case.)
    - `uncentred_logits`, `logit_overflow`, `calibration`.
    - `labels`: they do not fit; `refused`: whatever else a Distiller refuses.

    Args:
        teacher: As the Distiller's.
        student: As the Distiller's. The task loss is what it was compiled with, else
            the cross-entropy that fits the labels.
        data: A tuple `(x, y)` or `(x,)` of arrays; or what `fit` takes that gives
            batches, without weights of samples. An iterator loses those looked at.
        distillation_losses: As the Distiller's, at their full weight.
        from_logits: As the Distiller's.
        output: As the Distiller's.
        batches: How many batches to look at. Of arrays, 64 samples each.
        views: As the Distiller's.
        verbose: Whether the report is printed.

    Returns:
        A `keras_dtkd.diagnostics.Report`.

    Raises:
        TypeError: Something is no model, or no loss.
        ValueError: Arguments that contradict each other, or no data.

    Example:

    >>> report = keras_dtkd.diagnose(teacher, student, (x_train, y_train), KD())
    >>> report.healthy, report["teacher"]["accuracy"]
    """
    made = looking.distiller(
        teacher, student, distillation_losses, from_logits, output, views
    )
    if isinstance(data, tuple) and data:
        data = (add_sample_ids(made.teacher_reference.teacher, data[0]), *data[1:])
    samples = gather(data, batches)
    report = Report(*_examine(made, samples))
    if verbose:
        print(report)
    return report


def _examine(made, samples):
    findings, seen = looking.look(made, samples[0])
    figures: dict = {"data": {"batches": float(len(samples))}}
    if not seen:
        return figures, findings
    told, has_task = looking.compile_task(made, samples)
    findings += told
    unfit = any(finding.name == "labels" for finding in told)
    if unfit and not _can_be_given(made, samples[0].y):
        return figures, findings
    batches, rows = hear(made, samples)
    findings += input_ranges.nan(samples, rows)
    losses = looking.losses_of(made)
    count, classes = rows.student.shape
    agree = (rows.student.argmax(-1) == rows.teacher.argmax(-1)).mean()
    figures["data"] = {
        "samples": float(count),
        **figures["data"],
        "classes": float(classes),
    }
    figures["inputs"] = input_ranges.figures(made, samples)
    for role in ("teacher", "student"):
        values = getattr(rows, role)
        known = teacher_quality.figures(values, rows.labels)
        figures[role] = {**known, "logits": logit_ranges.figures(values)}
    figures["agreement"] = float(agree)
    figures["dtkd"] = dynamic.figures(rows, losses)
    measured, pulls = terms.measure(made, batches, has_task)
    figures.update(measured)

    findings += looking.stated_wrongly(made, rows)
    # Labels that do not fit explain whatever else is wrong with them.
    told = [] if unfit else _poor_teacher(made, samples, rows, figures["teacher"])
    findings += told
    if not any(finding.name == "inputs_scaled" for finding in told):
        findings += input_ranges.findings(figures["inputs"], _doing_well(figures))
    if not told and not unfit:
        findings += teacher_quality.calibration(figures["teacher"])
    findings += logit_ranges.findings(made, figures, dynamic.depends_on_shift(losses))
    findings += dynamic.findings(figures["dtkd"], losses)
    labelled = rows.labels is not None and bool((rows.labels >= 0).any())
    findings += terms.findings(made, measured, batches, labelled)
    findings += squared.findings(made, batches, pulls)
    return figures, findings


def _can_be_given(made, labels):
    """Whether any loss can make something of labels that do not fit."""
    shapes, labels = made.student_shapes.values(), keras.tree.flatten(labels)
    return len(shapes) == len(labels) and all(
        not label_checks.is_text(np.asarray(leaf))
        and label_checks.has_class_label_shape(np.asarray(leaf), shape, one_hot=True)
        for leaf, shape in zip(labels, shapes, strict=True)
    )


def _poor_teacher(made, samples, rows, found):
    """The likeliest reason for which a teacher is poor on the labels."""
    before = found.get("accuracy")
    if before is None:
        return []
    order = scale = None
    surprise = teacher_quality.surprise(rows.teacher, rows.labels)
    # Where it is nearly always right, and knows it, nothing can make it much better.
    if before + teacher_quality.GAIN <= 1 or surprise > teacher_quality.SURPRISED:
        order = teacher_quality.permutation(rows.teacher, rows.labels)
        unknown = teacher_quality.entropy(rows.labels)
        scale = input_scaling.better(made, samples, before, surprise, unknown)
    if scale and (not order or scale[1] >= order[1]):
        return [input_scaling.scaled(scale, before)]
    if order:
        return [teacher_quality.permuted(order, before)]
    return teacher_quality.chance(rows.teacher, rows.labels)


def _doing_well(figures):
    """Models that the labels show to be made for these inputs."""
    return [
        role
        for role in ("teacher", "student")
        if figures[role].get("accuracy", 0.0) + teacher_quality.GAIN > 1
    ]
