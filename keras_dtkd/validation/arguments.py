"""Arguments of the `Distiller` and its methods, which raise where they are wrong."""

from typing import Any

import keras

from keras_dtkd.core.arguments import check_positive_int, is_finite_number
from keras_dtkd.rollouts import Rollout

# What `fit` of `keras.distillation.Distiller` logs, and where that is here.
MIGRATED_LOGS = {
    "total_loss": "`loss`",
    "student_loss": "`task_loss`",
    "distillation_loss": "each loss by its own name, such as `kd`",
}


def _weights_hint(value):
    """`w · student + (1 − w) · distillation`, as Keras has it."""
    if not is_finite_number(value):
        return "`task_weight=w` of the labels, and to the loss `weight=1 - w`"
    rest = f"{1 - value:.6g}"
    return (
        f"`task_weight={value}`, and to the loss `weight={rest}`, as "
        f"`KD(weight={rest})`: there the distillation is multiplied by 1 - {value}"
    )


# Where the arguments of Keras's own `Distiller`, and of the one in its examples,
# belong in this one; functions of what was given.
MIGRATION_HINTS: dict[str, Any] = {
    "temperature": "it to the loss: `Distiller(teacher, student, KD(temperature={}))`",
    "alpha": _weights_hint,
    "student_loss_weight": _weights_hint,
    "distillation_loss": "`Distiller(teacher, student, KD())`",
    "distillation_loss_fn": "`Distiller(teacher, student, KD())`",
    "distillation_loss_weights": (
        "each loss its own `weight=`, times 1 - `student_loss_weight`: "
        "`KD(weight=0.5)`, `KerasDistillationLoss(loss, weight=0.5)`"
    ),
    "student_loss": "it to `compile(optimizer, loss)` of the student or the Distiller",
    "student_loss_fn": "it as `loss`: `compile(optimizer, loss)`",
}


def check_language(rollout, chunk_size):
    """The arguments for language models, returned as they are."""
    if rollout is not None and not isinstance(rollout, Rollout):
        hint = " That is the class: call it." if isinstance(rollout, type) else ""
        raise TypeError(
            "`Distiller`: `rollout` must be a `keras_dtkd.rollouts.Rollout`. Received: "
            f"{rollout!r}.{hint}"
        )
    if chunk_size is not None:
        chunk_size = check_positive_int("Distiller", "chunk_size", chunk_size)
    return rollout, chunk_size


def validate_arguments(student, kwargs):
    """A student that is a model, and no other arguments."""
    if not isinstance(student, keras.Model):
        raise TypeError(
            "`Distiller`: `student` must be a `keras.Model`. Received: "
            f"{type(student).__name__}."
        )
    if hasattr(student, "teacher_reference"):
        raise TypeError(
            "`Distiller`: the student is a Distiller itself. Pass the model that it "
            "trains, `distiller.student`."
        )
    _reject_custom_steps(student)
    reject_migrated_arguments("Distiller", kwargs)


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


def validate_batch_size(batch_size):
    """A whole number of samples, where one is given."""
    if getattr(batch_size, "shape", ()):
        raise ValueError(
            "`Distiller.fit`: the third argument is `batch_size`. Received an array of "
            f"shape {tuple(batch_size.shape)}. Give weights as `sample_weight=`."
        )
    if batch_size is not None:
        check_positive_int("Distiller.fit", "batch_size", batch_size)


def reject_migrated_arguments(caller, kwargs):
    """No arguments of other distillers, whose own place is elsewhere here."""
    for name, instead in MIGRATION_HINTS.items():
        if name in kwargs:
            value = kwargs[name]
            hint = instead(value) if callable(instead) else instead.format(repr(value))
            raise ValueError(f"`{caller}`: it has no argument `{name}`. Give {hint}.")


def validate_monitors(callbacks):
    """No callback that waits for a name which another distiller logs."""
    for callback in callbacks or ():
        monitor = getattr(callback, "monitor", None)
        name = str(monitor).removeprefix("val_")
        if name in MIGRATED_LOGS:
            raise ValueError(
                f"`Distiller.fit`: `{type(callback).__name__}` monitors {monitor!r}, "
                f"which is not logged. Here it is {MIGRATED_LOGS[name]}; in front of "
                "what is measured on validation data stands `val_`."
            )


def validate_metrics(metrics):
    """No metric for `compile` of anything but labels and outputs."""
    for metric in metrics:
        if getattr(metric, "requires_teacher_outputs", False):
            raise ValueError(
                f"`Distiller`: the metric {metric.name!r} needs other inputs than "
                "labels and the student's outputs, which `compile` gives it. Leave it "
                "out of `compile` and feed it: `metric.update_state(...)`, as its "
                "docstring shows. (`fit` logs `agreement`, temperatures and each loss "
                "by itself.)"
            )
