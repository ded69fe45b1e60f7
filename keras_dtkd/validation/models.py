"""What can be known to be wrong before the first step."""

import warnings

import keras
import numpy as np

from keras_dtkd import backend
from keras_dtkd.teachers.sample_ids import model_inputs

# What a user may look for elsewhere than it is.
MIGRATION_HINTS = {
    "temperature": "it to a loss: `distillation_losses=KD(temperature=4.0)`",
    "alpha": "weights: `task_weight=` of the labels, `KD(weight=)` of a loss",
    "distillation_loss": "`distillation_losses=KD()`",
    "distillation_loss_weights": "each loss its own: `KD(weight=0.5)`",
    "student_loss": "it to `compile(optimizer, loss)` of the student or the Distiller",
    "student_loss_weight": "`task_weight=`",
}


def validate_arguments(student, from_logits):
    """The Distiller's arguments that speak for themselves."""
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


def reject_custom_steps(student):
    """A training step of the student's own would not be called, without a word."""
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


def reject_foreign_arguments(given):
    """No argument of another class, or of Keras's own `Distiller`."""
    for name, instead in MIGRATION_HINTS.items():
        if name in given:
            raise ValueError(
                f"`Distiller`: it has no argument `{name}`. Give {instead}."
            )


def reject_feedback_data(given):
    """An exam is for a teacher that learns."""
    if "exam" in given:
        raise TypeError(
            "`Distiller.fit`: there is no exam for a teacher that stays as it is. Use "
            "`InteractiveDistiller(teacher, student).fit(x, y, exam=(x, y))`."
        )


def validate_no_shared_weights(teacher, student):
    """The teacher is not the student, and shares nothing that is trained."""
    if any(model is student for model in teacher.models):
        raise ValueError(
            "`Distiller`: the teacher is the student. Pass two models; "
            "`keras.models.clone_model` makes a second one."
        )
    trained = {id(v) for v in student.trainable_variables}
    shared = [v.path for v in teacher.variables if id(v) in trained]
    if shared:
        raise ValueError(
            "`Distiller`: teacher and student share variables that would be trained, "
            f"among them {shared[0]}. Give the student layers of its own, or freeze "
            "the shared ones."
        )


def require_teacher(distiller):
    """There is a teacher; a loaded Distiller has none yet."""
    if distiller.teacher_reference.teacher is None:
        raise ValueError(
            "`Distiller`: there is no teacher. A file holds none: after loading, set "
            "`distiller.teacher = teacher`."
        )


def require_eval_labels(distiller, sample):
    """There are labels, or the teacher is heard."""
    if sample.y is None and not distiller.evaluate_distillation:
        raise ValueError(
            "`Distiller.evaluate`: there are no labels, so nothing can be measured. "
            "Pass `y`, or make the Distiller with `evaluate_distillation=True`."
        )


def require_validation_labels(validation_data, labels, validation_split, y):
    """There are labels to validate with. An iterator's are not known yet."""
    unlabelled = validation_split and y is None
    if validation_data is not None and not hasattr(validation_data, "__next__"):
        unlabelled = labels is None
    if unlabelled:
        raise ValueError(
            "`Distiller.fit`: the validation data has no labels, so nothing can be "
            "measured. Pass labels, or make the Distiller with "
            "`evaluate_distillation=True`."
        )


def warn_unused_labels(distiller, sample):
    """Warns of labels that nobody looks at."""
    compiled = distiller.get_compile_config() or {}
    metrics = compiled.get("metrics") or compiled.get("weighted_metrics")
    if sample.y is not None and not distiller.has_task_loss and not metrics:
        warnings.warn(
            "`Distiller`: there are labels, but it was compiled without a loss: they "
            "teach nothing. Compile with a loss, or leave `compile` out: the "
            "cross-entropy that fits is then chosen.",
            stacklevel=4,
        )


def build_models(distiller, sample):
    """Builds what is not built yet, from the data."""
    teacher = distiller.teacher_reference.teacher
    found = [("teacher", m) for m in (() if teacher is None else teacher.models)]
    x = model_inputs(sample.x)
    for role, model in (("student", distiller.student), *found):
        if model.built:
            continue
        try:
            with backend.building_scope(
                getattr(distiller, "distribute_strategy", None)
            ):
                model(keras.tree.map_structure(lambda a: a[:1], x))
        except Exception as error:
            shapes = keras.tree.map_structure(lambda a: str(a.shape), x)
            raise ValueError(
                f"`Distiller`: the {role} is not built, and cannot be from the data, "
                f"whose inputs have the shapes {shapes}. Call it on a batch first. "
                f"Keras says: {error}"
            ) from error
    distiller.built = distiller.student.built


def reject_model_comparison_metrics(metrics):
    """No metric that compares two models: a compiled one is given the labels."""
    for metric in metrics:
        if getattr(metric, "requires_teacher_outputs", False):
            name = metric.name
            raise ValueError(
                f"`Distiller`: the metric {name!r} compares two models, and one that "
                "is compiled is given labels in the teacher's place. Leave it out of "
                "`compile` and feed it: `metric.update_state(...)`, as its docstring "
                "shows. (`fit` logs `agreement`, temperatures and each loss by itself.)"
            )


def require_trainable_weights(student):
    """The student has weights that a step would change."""
    if not student.trainable_variables:
        raise ValueError(
            "`Distiller`: the student has no trainable weights, so nothing would be "
            "trained. Set `student.trainable = True`, or unfreeze some of its layers."
        )


def validate_finite_weights(teacher):
    """No NaN and no infinity in the teacher."""
    for variable in teacher.variables:
        if not keras.backend.is_float_dtype(variable.dtype):
            continue
        if not bool(keras.ops.all(keras.ops.isfinite(variable.value))):
            raise ValueError(
                "`Distiller`: the teacher's weights hold NaN or infinity, in "
                f"{variable.path} first. Load a sound checkpoint."
            )


def validate_captured_layers(distiller):
    """The teacher has layers, if a loss names some."""
    if getattr(distiller.teacher_reference.teacher, "model", None) is not None:
        return
    for name, loss in distiller.distillation_losses.items():
        if loss.teacher_layers:
            raise ValueError(
                f"`Distiller`: `{name}` asks for layers of the teacher "
                f"({', '.join(loss.teacher_layers)}), and the teacher is no single "
                "model. Give one model, or a loss on logits."
            )


def require_labels(distiller, sample):
    """There are labels, if a loss cannot do without."""
    if sample.y is not None:
        return
    for name, loss in distiller.distillation_losses.items():
        if loss.needs_labels:
            raise ValueError(
                f"`Distiller`: `{name}` needs labels, and the data has none. Pass `y`, "
                "or choose a loss that does without."
            )


def warn_teacher_at_chance(values, y):
    """Warns of a teacher that knows nothing of these classes.

    Args:
        values: The teacher's first outputs, `(batch, ..., classes)`, or `None`.
        y: Labels of the sample, or `None`.
    """
    if values is None or y is None:
        return
    if isinstance(y, dict | list | tuple) or values.shape[-1] < 2:
        return
    classes = values.shape[-1]
    if y.shape == values.shape:
        if (y.sum(-1) > 1.5).any() or (y.sum(-1) < 0.5).any():
            # Several labels, or none: there is no one right choice.
            return
        y = y.argmax(-1)
    elif y.shape == (*values.shape[:-1], 1):
        y = y[..., 0]
    if y.shape != values.shape[:-1]:
        return
    right = values.argmax(-1) == y
    chance = right.size / classes
    noise = 2 * np.sqrt(chance * (1 - 1 / classes))
    if right.sum() <= chance + noise and not right.all():
        warnings.warn(
            f"`Distiller`: on {right.size} samples the teacher is right in "
            f"{right.mean():.1%}, no better than chance ({1 / classes:.1%}). Does it "
            "know these classes, in this order? Are the inputs scaled as it expects?",
            stacklevel=4,
        )
