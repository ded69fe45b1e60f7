"""Arguments of the `Distiller` and its methods, which raise where they are wrong."""

import keras

# Where the arguments of Keras's own `Distiller` belong in this one.
MIGRATION_HINTS = {
    "temperature": "it to a loss: `distillation_losses=KD(temperature=4.0)`",
    "alpha": "weights: `task_weight=` of the labels, `KD(weight=)` of a loss",
    "distillation_loss": "`distillation_losses=KD()`",
    "distillation_loss_weights": "each loss its own: `KD(weight=0.5)`",
    "student_loss": "it to `compile(optimizer, loss)` of the student or the Distiller",
    "student_loss_weight": "`task_weight=`",
}


def validate_arguments(student, from_logits, kwargs):
    """A student that is a model, a `from_logits` that is known, no other arguments."""
    if not isinstance(student, keras.Model):
        raise TypeError(
            "`Distiller`: `student` must be a `keras.Model`. Received: "
            f"{type(student).__name__}."
        )
    if from_logits not in (True, False, "auto"):
        raise ValueError(
            "`Distiller`: `from_logits` must be True, False or 'auto'. Received: "
            f"from_logits={from_logits!r}."
        )
    _reject_custom_steps(student)
    for name, instead in MIGRATION_HINTS.items():
        if name in kwargs:
            raise ValueError(
                f"`Distiller`: it has no argument `{name}`. Give {instead}."
            )


def _reject_custom_steps(student):
    """No step of the student's own: a Distiller's takes its place."""
    for method, instead in (
        ("train_step", "compute_loss(x, y, y_pred, sample_weight, training)"),
        ("test_step", "compute_metrics(x, y, y_pred, sample_weight)"),
    ):
        if getattr(type(student), method) is not getattr(keras.Model, method):
            raise ValueError(
                f"`Distiller`: the student's class `{type(student).__name__}` has a "
                f"`{method}` of its own, which would not be called: a Distiller's step "
                f"takes its place. Move what it computes into `{instead}`, which a "
                "Distiller calls."
            )


def reject_feedback_data(kwargs):
    """No exam: it is for a teacher that learns."""
    if "exam" in kwargs:
        raise TypeError(
            "`Distiller.fit`: there is no exam for a teacher that stays as it is. Use "
            "`InteractiveDistiller(teacher, student).fit(x, y, exam=(x, y))`."
        )


def require_teacher(distiller):
    """A teacher: a loaded Distiller has none yet."""
    if distiller.teacher_reference.teacher is None:
        raise ValueError(
            "`Distiller`: there is no teacher. A file holds none: after loading, set "
            "`distiller.teacher = teacher`."
        )


def validate_metrics(arguments):
    """The metrics among arguments of `compile`, none of which compares two models."""
    metrics = arguments.get("metrics"), arguments.get("weighted_metrics")
    metrics = keras.tree.flatten(list(metrics))
    for metric in metrics:
        if getattr(metric, "requires_teacher_outputs", False):
            raise ValueError(
                f"`Distiller`: the metric {metric.name!r} compares two models, and one "
                "that is compiled is given labels in the teacher's place. Leave it out "
                "of `compile` and feed it: `metric.update_state(...)`, as its "
                "docstring shows. (`fit` logs `agreement`, temperatures and each loss "
                "by itself.)"
            )
    return metrics
