"""What `fit` does before Keras's own: look at the data, check, compile."""

import keras

from keras_dtkd import backend, checks, data, heads, logits, processes


def prepare(distiller, x, y, kwargs, batch_size=None, training=True):
    """Checks models and data, and compiles what was not compiled.

    Args:
        distiller: The Distiller.
        x: As `fit` got it.
        y: As `fit` got it.
        kwargs: Other arguments of `fit`: `validation_data` tells of labels.
        batch_size: As `fit` got it.
        training: Whether a step will train.

    Returns:
        `x`, to be used from here on: the first batch of an iterator that was looked
        at is put back.
    """
    sample, x = data.peek(x, y, batch_size)
    labels = sample.y
    if labels is None and kwargs.get("validation_data") is not None:
        labels = data.peek_labels(kwargs["validation_data"])
    held = distiller.held
    if training:
        held.train_labels = sample.y is not None
    else:
        held.test_labels = sample.y is not None
        checks.something_to_evaluate(distiller, sample)
    hears = training or distiller.evaluate_teacher
    if hears:
        checks.has_teacher(distiller)
        checks.finite_weights(held.teacher)
        checks.labels_where_needed(distiller, sample)
    _look(distiller, sample, hears)
    with backend.building_scope(distiller):
        compile_if_needed(distiller, labels)
    spare_from_decay(distiller)
    checks.labels(distiller, sample, y)
    return x


def _look(distiller, sample, hears):
    """Looks at the models' outputs, once for data of one shape."""
    held = distiller.held
    known = [str((a.shape[1:], a.dtype)) for a in keras.tree.flatten(sample.x)]
    if held.looked == (known, hears) or held.looked == (known, True):
        return
    checks.build(distiller, sample)
    student, teacher = heads.find(distiller, sample, hears)
    held.student_shape = None if student.nested else student.shape
    if teacher is not None:
        held.heads = (student.head, teacher.head)
        checks.better_than_chance(teacher.values, sample.y)
        _build_rules(distiller, teacher)
    elif held.heads is None:
        held.heads = (student.head, student.head)
    held.looked = (known, hears)


def _build_rules(distiller, outputs):
    """Learned temperatures get their weights before an optimizer asks for them."""
    with backend.building_scope(distiller):
        zeros = logits.recover(keras.ops.zeros(outputs.shape), outputs.head)
        for loss in distiller.distillation_losses.values():
            for rule in loss.temperature_rules():
                rule(zeros, zeros)
                rule.take_latest()


def spare_from_decay(distiller):
    """Excludes from weight decay what losses and temperatures ask to be left alone.

    Keras knows one list of exclusions: this replaces another one, of a user who
    learns a temperature and says so in `Curriculum`'s arguments.
    """
    optimizer = distiller.optimizer
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    losses = distiller.distillation_losses.values()
    spared = [variable for loss in losses for variable in loss.undecayed()]
    if spared and not optimizer.built:
        optimizer.exclude_from_weight_decay(var_list=spared)


def compile_if_needed(distiller, labels):
    """Compiles as the student was, or with the cross-entropy that fits the labels.

    What the user compiled stays. What we compiled is made again when there are
    labels for the first time, or others.
    """
    held = distiller.held
    kind = _kind(labels)
    if distiller.compiled and not (
        held.compiled_by_us and kind not in (None, held.kind)
    ):
        return
    optimizer = distiller.optimizer if distiller.compiled else "adam"
    if distiller.student.compiled:
        borrow(distiller, labels is not None)
    elif labels is None:
        distiller.compile(optimizer=optimizer)
    else:
        loss, accuracy = cross_entropy(distiller, labels)
        distiller.compile(optimizer=optimizer, loss=loss, metrics=[accuracy])
    held.compiled_by_us, held.kind = True, kind


def _kind(labels):
    if labels is None:
        return None
    return [(str(v.dtype), len(v.shape)) for v in keras.tree.flatten(labels)]


def cross_entropy(distiller, labels):
    """The cross-entropy and accuracy that fit the student's head and the labels.

    Raises:
        ValueError: A student with several outputs: nobody can guess their losses.
    """
    held = distiller.held
    shape = held.student_shape
    if shape is None or isinstance(labels, dict | list | tuple):
        raise ValueError(
            "`Distiller`: the student or the labels have several outputs. Compile the "
            "student (or the Distiller) with a loss for each: "
            "`student.compile(optimizer, loss={...})`."
        )
    head = held.heads[0]
    from_logits = head in (logits.LOGITS, logits.BINARY)
    if head in (logits.SIGMOID, logits.BINARY):
        accuracy = keras.metrics.BinaryAccuracy(
            name="accuracy", threshold=0.0 if from_logits else 0.5
        )
        return keras.losses.BinaryCrossentropy(from_logits=from_logits), accuracy
    if len(labels.shape) == len(shape) and labels.shape[-1] == shape[-1]:
        return keras.losses.CategoricalCrossentropy(from_logits=from_logits), "accuracy"
    return (
        keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits),
        "accuracy",
    )


def borrow(distiller, labels=True):
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
    try:
        config = keras.saving.deserialize_keras_object(config)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`Distiller`: the student's metrics cannot be made again from their "
            "configuration. Compile the Distiller itself: `distiller.compile(...)`. "
            f"Keras says: {error}"
        ) from error
    optimizer = student.optimizer
    # An optimizer that has begun knows the student's variables alone.
    learned = len(distiller.trainable_variables) > len(student.trainable_variables)
    if learned and optimizer.built:
        optimizer = type(optimizer).from_config(optimizer.get_config())
    distiller.compile(optimizer=optimizer, loss=loss, **config)
    distiller.held.borrowed = True


def attended(callbacks, verbose, attendant):
    """The user's callbacks with ours before them, for this process."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        # Keras makes another of them, with the number of epochs that ours needs.
        callbacks = callbacks.callbacks
    callbacks = callbacks or []
    callbacks = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
    callbacks, verbose = processes.of_this_rank(callbacks, verbose)
    return [attendant, *callbacks], verbose
