"""Whether the outputs of two object detectors can be compared.

Detectors are known by the attributes that KerasHub's have in common.
"""

import keras

from keras_dtkd.core.detectors import check_detector_labels, has_queries, is_detector
from keras_dtkd.core.issue import ERROR, Issue

# Of an anchor generator's configuration, what has no effect on its boxes.
NOT_OF_ANCHORS = {"name", "dtype", "trainable", "bounding_box_format"}
ENCODING = ("encoding_format", "box_variance")


def check_detector_boxes(context):
    """Labels of a detector without boxes, or with boxes that it cannot be."""
    labels, images = context.sample.y, context.inputs
    if not is_detector(context.student) or labels is None:
        return []
    if keras.tree.is_nested(images):
        return []
    try:
        check_detector_labels("Distiller", context.student, images, labels)
    except ValueError as error:
        return [Issue("detector_labels", ERROR, str(error), cause=error)]
    return []


def check_detectors(context):
    """Losses that cannot compare the outputs of the detectors, at most one issue.

    Looks at the models alone: none is run.
    """
    teachers = () if context.teacher is None else context.teacher.models
    detectors = [m for m in (context.student, *teachers) if is_detector(m)]
    for name, loss in context.losses.items():
        if not detectors or not loss.compares_outputs:
            continue
        issues = _check_queries(name, detectors)
        issues = issues or _check_output_is_chosen(name, loss, context, detectors)
        for teacher in teachers:
            issues = issues or _check_anchors(name, context.student, teacher)
            if loss.compares_boxes:
                issues = issues or _check_encoding(name, context.student, teacher)
        if issues:
            return issues
    return []


def _check_queries(name, detectors):
    model = next(filter(has_queries, detectors), None)
    if model is None:
        return []
    message = (
        f"`Distiller`: `{name}` compares outputs position by position, and those of "
        f"`{type(model).__name__}` are queries, which each model chooses for itself: "
        "the teacher's query i is not the object of the student's query i."
    )
    hint = (
        "Distil features, as with `FitNet(features=[...])`: "
        "`keras_dtkd.features(model, images)` lists them."
    )
    return [Issue("detector_queries", ERROR, message, hint)]


def _check_output_is_chosen(name, loss, context, detectors):
    if loss.distilled_output is not None or context.output is not None:
        return []
    outputs = getattr(detectors[0], "output", None)
    if not isinstance(outputs, dict) or len(outputs) < 2:
        return []
    message = (
        f"`Distiller`: `{name}` compares one output, and a detector has several: "
        f"{', '.join(map(repr, outputs))}."
    )
    hint = (
        "Take `DenseClassKD()` for the classes of the anchors and `DenseBoxKD()` for "
        "their boxes, or a loss on features."
    )
    return [Issue("detector_outputs", ERROR, message, hint)]


def _check_anchors(name, student, teacher):
    configs = [_anchor_config(model) for model in (student, teacher)]
    differences = _describe_differences(*configs)
    if not differences:
        return []
    message = (
        f"`Distiller`: `{name}` compares the detectors anchor by anchor, and their "
        f"anchors are not the same: {differences}."
    )
    hint = (
        "Give both the same levels and anchors (`anchor_generator=`), or take a loss "
        "on features."
    )
    return [Issue("different_anchors", ERROR, message, hint)]


def _anchor_config(model):
    generator = getattr(model, "anchor_generator", None)
    config = {} if generator is None else generator.get_config()
    return {k: v for k, v in config.items() if k not in NOT_OF_ANCHORS}


def _check_encoding(name, student, teacher):
    encoders = [getattr(m, "label_encoder", None) for m in (student, teacher)]
    configs = [
        {key: getattr(e, key) for key in ENCODING if hasattr(e, key)} for e in encoders
    ]
    differences = _describe_differences(*configs)
    if not differences:
        return []
    message = (
        f"`Distiller`: `{name}` compares boxes as the detectors encode them, which is "
        f"not the same: {differences}."
    )
    hint = "Give both the same encoding (`label_encoder=`)."
    return [Issue("different_encodings", ERROR, message, hint)]


def _describe_differences(student, teacher):
    """What differs in two configurations; of what both have."""
    return ", ".join(
        f"{key} is {teacher[key]} in the teacher and {student[key]} in the student"
        for key in student
        if key in teacher and _as_lists(student[key]) != _as_lists(teacher[key])
    )


def _as_lists(value):
    return list(value) if isinstance(value, tuple) else value
