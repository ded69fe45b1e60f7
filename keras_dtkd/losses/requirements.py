"""What a loss declares to need, and whether models and data have it."""

import math

from keras_dtkd.core.features import find_feature
from keras_dtkd.core.issue import ERROR, WARNING, Issue
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.losses.input_gradient_checks import check_input_gradient


def check_requirements(loss, context):
    """Labels, layers, views and input gradients that a loss cannot have."""
    name, teacher = context.name_of(loss), context.teacher
    issues = []
    has_gradient = loss.input_gradient is not None
    if loss.needs_labels or (has_gradient and loss.input_gradient_labels == "data"):
        issues += _check_labels(name, loss, context)
    if loss.teacher_layers and teacher.model is None:
        message = (
            f"`Distiller`: `{name}` needs layers of the teacher "
            f"({', '.join(loss.teacher_layers)}), and the teacher is no single model."
        )
        hint = "Give one model, or a loss on logits."
        issues.append(Issue("no_teacher_layers", ERROR, message, hint))
    issues += _check_layers(name, "student", context.student, loss.student_layers)
    issues += _check_layers(name, "teacher", teacher.model, loss.teacher_layers)
    view = context.views.get(loss.view)
    if view is not None and teacher.needs_sample_ids and not view.student_only:
        message = (
            f"`Distiller`: `{name}` is for the view {loss.view!r}, for which the "
            "teacher has no stored outputs."
        )
        hint = "Give the teacher itself, or a loss without a view."
        issues.append(Issue("stored_view", ERROR, message, hint))
    issues += _check_batch_size(name, loss, context)
    issues += _check_regression(name, loss, context)
    if loss.multilabel:
        issues += _check_multilabel(name, loss, context)
    if has_gradient:
        issues += check_input_gradient(name, loss, context)
    return issues


def _check_layers(name, role, model, layer_names):
    """Layers that a built model does not have."""
    if model is None or not model.built:
        return
    for layer_name in layer_names:
        try:
            find_feature(model, layer_name)
        except ValueError as error:
            message = (
                f"`Distiller`: `{name}` needs a layer of the {role} that is missing: "
                f"{error}"
            )
            hint = "Pairs of layers begin with the student's."
            yield Issue("unknown_layer", ERROR, message, hint)


def _check_labels(name, loss, context):
    """Labels that are missing, in the data, on its view or of its output."""
    if context.rollout is not None:
        # The tokens are the labels.
        return
    if context.sample.y is None:
        message = f"`Distiller`: `{name}` needs labels, and the data has none."
        hint = "Pass `y`, or choose a loss that does without."
        yield Issue("missing_labels", ERROR, message, hint)
    elif loss.view is not None and loss.input_gradient is None:
        message = f"`Distiller`: `{name}` needs labels, and a view has none."
        yield Issue("missing_labels", ERROR, message, "Leave `view` out.")
    student, _ = context.specs_of(loss)
    if context.has_own_loss and loss.takes_step:
        # It may take all labels, see `Step.y`.
        return
    try:
        if student is not None:
            student.select(context.sample.y)
    except KeyError as error:
        message = (
            f"`Distiller`: `{name}` needs the labels of its output, {student.key!r}."
        )
        hint = f"There are: {error.args[0]}."
        yield Issue("missing_labels", ERROR, message, hint)


def _check_batch_size(name, loss, context):
    """Batches of one sample, of which nothing can be compared with another."""
    spec, _ = context.specs_of(loss)
    batch_size = context.sample.batch_size
    if spec is None or batch_size is None or not context.is_training:
        return
    # Positions of sequences are samples too.
    rows = batch_size
    if loss.counts_positions:
        rows *= math.prod(spec.shape[1:-1])
    parts = loss, *loss.get_temperatures()
    needed = max(part.min_batch_size for part in parts)
    if rows < needed:
        message = (
            f"`Distiller`: `{name}` compares the samples of a batch with each other, "
            f"and the batches have {rows}: it, or that part of it, teaches nothing."
        )
        hint = "Use batches of at least 2, better 32 and more: `fit(batch_size=32)`."
        yield Issue("small_batch", WARNING, message, hint)


def _check_regression(name, loss, context):
    """A loss on classes where the outputs are those of a regression."""
    spec, _ = context.specs_of(loss)
    is_regression = spec is not None and spec.output_kind == OutputKind.REGRESSION
    if not is_regression or not loss.compares_classes:
        return
    message = (
        f"`Distiller`: `{name}` compares classes, and the student was compiled for a "
        "regression."
    )
    hint = (
        "Take `LogitMSE()`, which compares the numbers themselves; or, if they are "
        "logits all the same, give the Distiller `from_logits=True`."
    )
    yield Issue("regression_output", ERROR, message, hint)


def _check_multilabel(name, loss, context):
    """A softmax, whose classes a loss would take for labels."""
    for spec in context.specs_of(loss):
        if spec and OutputKind.SOFTMAX in (spec.output_kind, *spec.member_kinds):
            message = (
                f"`Distiller`: `{name}` compares each label by itself, but the "
                f"{spec.role} ends in a softmax, which chooses one class."
            )
            hint = "Give it a linear or sigmoid output, or take another loss."
            yield Issue("softmax_output", ERROR, message, hint)
