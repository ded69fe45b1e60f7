"""What `fit` does before Keras's own: look at the data, check, compile."""

import sys

import keras

from keras_dtkd import backend
from keras_dtkd.core import arrays, logits
from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.preparation import data_peek
from keras_dtkd.teachers import sample_ids
from keras_dtkd.validation import (
    auxiliary_data,
    input_gradients,
    models,
    outputs,
    task_loss,
)
from keras_dtkd.validation import labels as label_checks


def prepare(distiller, x, y, kwargs, batch_size=None, training=True, batch=False):
    """Checks models and data, and compiles what was not compiled.

    Args:
        distiller: The Distiller.
        x: As `fit` got it.
        y: As `fit` got it.
        kwargs: Other arguments of `fit`: `validation_data` tells of labels.
        batch_size: As `fit` got it.
        training: Whether a step will train.
        batch: Whether `x` is one batch of data that nobody else knows.

    Returns:
        `(Sample, x)`: some samples, and `x` to be used from here on: the first batch
        of an iterator that was looked at is put back.
    """
    hears = training or distiller.evaluate_distillation
    if hears:
        x = sample_ids.add_sample_ids(distiller.held.teacher, x, batch)
    sample, x = data_peek.peek(x, y, batch_size)
    given = kwargs.get("validation_data")
    if given is not None and distiller.evaluate_distillation:
        sample_ids.validate_validation_ids(distiller.held.teacher, given)
    validation = None if given is None else data_peek.peek_labels(given)
    if training and not distiller.evaluate_distillation:
        split = kwargs.get("validation_split")
        models.require_validation_labels(given, validation, split, y)
    labels = validation if sample.y is None else sample.y
    held = distiller.held
    if training:
        held.train_labels = sample.y is not None
    else:
        held.test_labels = sample.y is not None
        models.require_eval_labels(distiller, sample)
    if hears:
        models.require_teacher(distiller)
        models.validate_finite_weights(held.teacher)
        models.validate_captured_layers(distiller)
        models.require_labels(distiller, sample)
    said = inspect_models(distiller, sample, hears)
    auxiliary_data.validate_validation_data(distiller, given, sample)
    if training:
        models.require_trainable_weights(distiller.student)
    if hears:
        # What they share may not have had variables before, or have been frozen.
        models.validate_no_shared_weights(held.teacher, distiller.student)
    with backend.building_scope(distiller):
        default_compile(distiller, labels)
    if training and input_gradients.needs_second_order(distiller):
        input_gradients.reject_jit_second_order("Distiller", distiller)
    exclude_from_weight_decay(distiller)
    if training:
        models.warn_unused_labels(distiller, sample)
    label_checks.validate_labels(distiller, sample.y if y is None else y)
    label_checks.validate_labels(distiller, validation, " of the validation data")
    models.warn_teacher_at_chance(said, sample.y)
    if training:
        task_loss.warn_from_logits_mismatch(distiller, sample)
        distiller.before_training(sample)
    return sample, x


def inspect_models(distiller, sample, hears=True):
    """Looks at the models' outputs, once for data of one shape.

    Returns:
        The teacher's for the sample, NumPy, if it was heard just now; else `None`.
    """
    held = distiller.held
    known = [str((a.shape[1:], a.dtype)) for a in keras.tree.flatten(sample.x)]
    known.append(arrays.describe_nan_inputs(sample_ids.model_inputs(sample.x)))
    if held.looked == (known, hears) or held.looked == (known, True):
        return None
    models.build_models(distiller, sample)
    if hears:
        sample_ids.validate_sample_ids(distiller, sample)
        input_gradients.validate_input_gradient_losses(distiller, sample)
    student, teacher = outputs.infer_output_specs(distiller, sample, hears)
    held.student_shapes = student.shapes
    if teacher is not None:
        for view in distiller.views.values():
            view.check(sample_ids.model_inputs(sample.x))
        input_gradients.require_one_output_per_sample(distiller, student.shape)
        held.heads = (student.head, teacher.head)
        input_gradients.require_nonzero_input_gradient(distiller, sample)
        outputs.warn_uncentered_comparison(distiller.distillation_losses, held.heads)
        # Weights that a loss makes when it is first called.
        if not all(part.built for part in iter_layers(distiller.distillation_losses)):
            _build_loss_weights(distiller, sample)
    elif held.heads is None:
        held.heads = (student.head, student.head)
    held.looked = (known, hears)
    return None if teacher is None else teacher.values


def _build_loss_weights(distiller, sample):
    """Calls the losses once, outside of a step.

    A compiled step makes no weights, and the optimizer must know them all.
    """
    rows = slice(sample.batch)
    x, y = (
        None if part is None else keras.tree.map_structure(lambda a: a[rows], part)
        for part in (sample.x, sample.y)
    )
    with backend.building_scope(distiller), backend.no_grad():
        distiller.compute_losses(x, y)


def exclude_from_weight_decay(distiller):
    """Excludes from weight decay what losses and temperatures ask to be left alone.

    Keras knows one list of exclusions: this replaces another one, of a user who
    learns a temperature and says so in `Curriculum`'s arguments.
    """
    optimizer = distiller.optimizer
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    losses = distiller.distillation_losses.values()
    spared = [
        variable
        for loss in losses
        for variable in loss.variables_without_weight_decay()
    ]
    if spared and not optimizer.built:
        optimizer.exclude_from_weight_decay(var_list=spared)


def default_compile(distiller, labels):
    """Compiles as the student was, or with the cross-entropy that fits the labels.

    What the user compiled stays. What we compiled is made again when there are
    labels for the first time, or others.
    """
    held = distiller.held
    kind = _label_format(distiller, labels)
    again = held.compiled_by_us and not held.fitting and kind not in (None, held.kind)
    if distiller.compiled and not again:
        return
    optimizer, options = "adam", {}
    if distiller.compiled:
        optimizer = distiller.optimizer
        names = ("run_eagerly", "jit_compile", "steps_per_execution")
        options = {name: getattr(distiller, name) for name in names}
    if distiller.student.compiled:
        compile_like_student(distiller, labels is not None)
    elif labels is None:
        distiller.compile(optimizer=optimizer, **options)
    else:
        loss, accuracy = default_task_loss(distiller, labels)
        distiller.compile(optimizer, loss, metrics=[accuracy], **options)
    held.compiled_by_us, held.kind = True, kind


def _label_format(distiller, labels):
    """What of the labels bears on the loss."""
    if labels is None:
        return None
    shapes = list(distiller.held.student_shapes.values())
    labels = keras.tree.flatten(labels)
    if len(labels) > 1 or len(shapes) > 1:
        return "several"
    return "one-hot" if _is_one_hot(labels[0], shapes[0]) else "sparse"


def _is_one_hot(labels, shape):
    return len(labels.shape) == len(shape) and labels.shape[-1] == shape[-1]


def default_task_loss(distiller, labels):
    """The cross-entropy and accuracy that fit the student's head and the labels.

    Raises:
        ValueError: A student with several outputs: nobody can guess their losses.
    """
    held = distiller.held
    shapes, labels = list(held.student_shapes.values()), keras.tree.flatten(labels)
    if len(shapes) > 1 or len(labels) > 1:
        raise ValueError(
            "`Distiller`: the student or the labels have several outputs. Compile the "
            "student (or the Distiller) with a loss for each: "
            "`student.compile(optimizer, loss={...})`."
        )
    shape, head = shapes[0], held.heads[0]
    from_logits = head in (logits.LOGITS, logits.BINARY)
    if head in (logits.SIGMOID, logits.BINARY):
        accuracy = keras.metrics.BinaryAccuracy(
            name="accuracy", threshold=0.0 if from_logits else 0.5
        )
        return keras.losses.BinaryCrossentropy(from_logits=from_logits), accuracy
    if _is_one_hot(labels[0], shape):
        return keras.losses.CategoricalCrossentropy(from_logits=from_logits), "accuracy"
    return (
        keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits),
        "accuracy",
    )


def compile_like_student(distiller, labels=True):
    """Compiles the Distiller as the student was: its very optimizer, loss, metrics.

    Raises:
        ValueError: Its metrics cannot be made again.
    """
    student = distiller.student
    config = dict(student.get_compile_config())
    loss = student.loss
    for key in ("optimizer", "loss"):
        config.pop(key, None)
    if not labels:
        loss = None
        for key in ("loss_weights", "metrics", "weighted_metrics"):
            config.pop(key, None)
    config = _clone_compile_config(config)
    optimizer = student.optimizer
    # One that knows the student's variables alone can train no others, and one that
    # trains others too is of no use to the student afterwards.
    if len(distiller.trainable_variables) > len(student.trainable_variables):
        optimizer = type(optimizer).from_config(optimizer.get_config())
    distiller.compile(optimizer=optimizer, loss=loss, **config)
    distiller.held.borrowed = True


def _clone_compile_config(config):
    """The student's metrics and the like, as objects of their own."""
    make = keras.saving.deserialize_keras_object
    try:
        return make(config)
    except (TypeError, ValueError) as error:
        # A notebook's own metrics are registered nowhere, and found by their names.
        own = {
            name: value
            for name, value in vars(sys.modules["__main__"]).items()
            if getattr(value, "__module__", None) == "__main__" and callable(value)
        }
        try:
            return make(config, custom_objects=own)
        except (TypeError, ValueError):
            raise ValueError(
                "`Distiller`: the student's metrics cannot be made again from their "
                "configuration. Register them "
                "(`keras.saving.register_keras_serializable`), or compile the "
                f"Distiller itself: `distiller.compile(...)`. Keras says: {error}"
            ) from error
