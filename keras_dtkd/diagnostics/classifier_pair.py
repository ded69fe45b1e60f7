"""Whether teacher and student are classifiers of the same classes, of labelled data."""

import dataclasses
from typing import Any, NamedTuple

import keras

from keras_dtkd.core import arrays
from keras_dtkd.core.class_names import check_class_names
from keras_dtkd.core.compiled_loss import compiled_loss, select_for_output
from keras_dtkd.core.detectors import is_detector
from keras_dtkd.core.issue import report_issues
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.preparation import measure, prepare
from keras_dtkd.training.run import strategy_of
from keras_dtkd.validation.checks import find_issues
from keras_dtkd.validation.data import check_sample_weights
from keras_dtkd.validation.labels import check_against_output

CALLER = "explain"


class ClassifierPair(NamedTuple):
    """What is known of both models before the first batch.

    Attributes:
        context: The `ValidationContext` of the first batch.
        class_names: A text for each class.
        ignored_label: The integer that is no label.
    """

    context: Any
    class_names: list
    ignored_label: int

    @property
    def student_spec(self):
        """The student's `OutputSpec`."""
        return self.context.student_spec

    @property
    def teacher_spec(self):
        """The teacher's `OutputSpec`."""
        return self.context.teacher_spec


def check_detectors(student, teacher):
    """Raises a `ValueError` for an object detector, before anything runs."""
    for model in (student, *teacher.models):
        if is_detector(model):
            raise ValueError(
                f"`{CALLER}` compares classifiers, and `{type(model).__name__}` is an "
                "object detector. Use `keras_dtkd.metrics.coco_ap` of both models and "
                "`keras_dtkd.plots.detections`."
            )


def inspect_pair(distiller, sample, data, class_names=None):
    """The `ClassifierPair` of a Distiller's models.

    Raises a `ValueError` for whatever cannot be compared, and of arrays for any label
    that is no class. The models run on the first batch, where their layers do not show
    what their outputs are.
    """
    if sample.y is None:
        raise ValueError(
            f"`{CALLER}` compares both models with the labels, and the data has none. "
            "Give `(x, y)`. Without labels `keras_dtkd.diagnose` measures agreement."
        )
    batch = sample.x, sample.y, sample.sample_weight
    context = prepare.peek(distiller, CALLER, iter([batch]))
    # No assignment lasts. What is built is built outside of the scope.
    measure.build_models(context, strategy_of(distiller))
    with keras.StatelessScope():
        context = prepare.inspect_models(distiller, context)
    if context.student_spec is not None:
        _check_is_classifier(context)
    report_issues(find_issues(context))
    spec = context.student_spec
    names = check_class_names(CALLER, class_names, max(spec.shape[-1], 2))
    pair = ClassifierPair(context, names, _find_ignored_label(distiller.student, spec))
    is_tuple = isinstance(data, tuple)
    if is_tuple and arrays.is_arrays(data):
        _, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        check_labels(pair, sample._replace(y=y, sample_weight=weights))
    return pair


def _check_is_classifier(context):
    for spec in (context.student_spec, context.teacher_spec):
        # Unlike numbers of classes are an issue of their own.
        shape = context.student_spec.shape
        if spec is None or len(shape) != len(spec.shape) or shape[-1] != spec.shape[-1]:
            continue
        problem = hint = None
        if len(spec.shape) > 2:
            problem = (
                f"the {spec.role}'s outputs of shape {spec.shape} are several choices "
                "for each sample (a sequence, or a segmentation)"
            )
            hint = "`keras_dtkd.diagnose` measures accuracy and agreement of them."
        elif spec.output_kind == OutputKind.REGRESSION:
            problem = f"the {spec.role} was compiled for a regression"
            hint = "Compare numbers by a metric, as `keras.metrics.MeanSquaredError`."
        elif spec.output_kind.is_multilabel and spec.shape[-1] > 1:
            problem = f"each output of the {spec.role} is a label by itself"
            hint = (
                "Compare one label at a time, by models that give it alone: "
                "`keras.Model(model.input, model.output[:, 3:4])`."
            )
        if problem is not None:
            raise ValueError(
                f"`{CALLER}` compares classifiers, which choose one class for each "
                f"sample, and {problem}. {hint}"
            )


def _find_ignored_label(student, spec):
    """The `ignore_class` that the student was compiled with, or -1."""
    index = list(spec.shapes).index(spec.key) if spec.key in spec.shapes else 0
    loss = select_for_output(compiled_loss(student), spec.key, index)
    ignored = getattr(loss, "ignore_class", None)
    return -1 if ignored is None else ignored


def find_weights(pair, sample):
    """The weights of a sample's rows, NumPy, 0 where a label is ignored; or `None`."""
    weights = pair.student_spec.select_weights(sample.sample_weight)
    labels = arrays.to_numpy(pair.student_spec.select(sample.y))
    if labels.ndim > 1 and labels.shape[-1] == len(pair.class_names):
        return weights
    is_label = (labels.reshape(-1) != pair.ignored_label).astype("float32")
    return is_label if weights is None else arrays.to_numpy(weights).ravel() * is_label


def check_labels(pair, sample):
    """Raises a `ValueError` for labels that are no classes, or invalid weights."""
    spec = pair.student_spec
    try:
        y = spec.select(sample.y)
    except KeyError as error:
        raise ValueError(
            f"`{CALLER}` needs the labels of the output {spec.key!r}, and the data has "
            f"those of {error.args[0]}. Give them by that name."
        ) from None
    num_classes = len(pair.class_names)
    values, shape = arrays.to_numpy(y), (*spec.shape[:-1], num_classes)
    weights = spec.select_weights(sample.sample_weight)
    weights = None if weights is None else arrays.to_numpy(weights).reshape(-1)
    loss: Any = keras.losses.CategoricalCrossentropy()
    if values.ndim < 2 or values.shape[-1] != num_classes:
        loss = keras.losses.SparseCategoricalCrossentropy(
            ignore_class=pair.ignored_label
        )
    issues = check_against_output(values, shape, loss, weights=weights)
    context = dataclasses.replace(pair.context, sample=sample)
    report_issues([*issues, *check_sample_weights(context)])
