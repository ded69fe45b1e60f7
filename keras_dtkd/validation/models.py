"""Teachers and students that cannot be trained, or that know nothing."""

import math

import keras
import numpy as np
from keras import ops

from keras_dtkd.core.issue import ERROR, WARNING, Issue
from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.core.preprocessors import find_difference, find_image_converter
from keras_dtkd.core.tokenizers import find_vocabulary


def check_shared_weights(teacher, student):
    """A teacher that is the student, or shares what is trained with it."""
    if any(model is student for model in teacher.models):
        message = "`Distiller`: the teacher is the student."
        hint = "Pass two models; `keras.models.clone_model` makes a second one."
        return [Issue("shared_weights", ERROR, message, hint)]
    trained = {id(v) for v in student.trainable_variables}
    shared = [v.path for v in teacher.variables if id(v) in trained]
    if not shared:
        return []
    message = (
        "`Distiller`: teacher and student share variables that would be trained, among "
        f"them {shared[0]}."
    )
    hint = "Give the student layers of its own, or freeze the shared ones."
    return [Issue("shared_weights", ERROR, message, hint)]


def check_tokenizers(student, teacher):
    """Models with tokenizers of their own, of unlike tokens."""
    ours = find_vocabulary(student)
    vocabularies = [find_vocabulary(model) for model in teacher.models]
    others = [known for known in vocabularies if known not in (None, ours)]
    if ours is None or not others:
        return []
    theirs, detail = others[0], ""
    for token, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            detail = f" (token {token}: {other!r} and {one!r})"
            break
    message = (
        "`Distiller`: teacher and student have different tokenizers, of "
        f"{len(theirs)} and {len(ours)} tokens{detail}."
    )
    hint = "Their outputs cannot be compared: take a teacher of the same tokenizer."
    return [Issue("different_tokenizers", ERROR, message, hint)]


def check_image_preprocessors(student, teacher):
    """A teacher whose own `fit` would make other images of the data."""
    ours = find_image_converter(student)
    theirs = [c for c in map(find_image_converter, teacher.models) if c is not None]
    # With `teacher_inputs` it is given images of its own.
    if not theirs or teacher.input_source is not None:
        return []
    if ours is None:
        message = (
            "`Distiller`: the teacher has a preprocessor for images and the student "
            "none: both are given the images as the data has them."
        )
        hint = (
            "Give the student the same `preprocessor`; or, if the data is scaled "
            "already, set `teacher.preprocessor = None`."
        )
        return [Issue("unused_preprocessor", WARNING, message, hint)]
    differences = (find_difference(ours, converter) for converter in theirs)
    difference = next((found for found in differences if found), None)
    if difference is None:
        return []
    name, our_value, their_value = difference
    message = (
        "`Distiller`: both models are given the images of the student's preprocessor, "
        f"and the teacher's makes others: {name} is {their_value} in the teacher's and "
        f"{our_value} in the student's."
    )
    hint = (
        "Give both the same; if the teacher can take the student's images, set "
        "`teacher.preprocessor = None`; or give `teacher_inputs`, a function or layer "
        "that makes the teacher's images of the student's."
    )
    return [Issue("different_preprocessors", ERROR, message, hint)]


def check_optimizer(context):
    """The teacher's very optimizer, whose state belongs to the teacher's weights."""
    if context.compiled is None or context.teacher is None:
        return []
    optimizer = context.compiled.optimizer
    others = [getattr(model, "optimizer", None) for model in context.teacher.models]
    if optimizer is None or not any(optimizer is other for other in others):
        return []
    message = "`Distiller`: the student's optimizer is the teacher's very own."
    hint = "Give it another: `student.compile(keras.optimizers.Adam(), ...)`."
    return [Issue("shared_optimizer", ERROR, message, hint)]


def check_optimizer_precision(context):
    """Weights in half precision, in which a step of Adam is always 0."""
    optimizer = getattr(context.compiled.optimizer, "inner_optimizer", None)
    optimizer = optimizer or context.compiled.optimizer
    names = "Adam", "Nadam", "Lamb", "Muon"
    kinds = tuple(getattr(keras.optimizers, n, keras.optimizers.Adam) for n in names)
    if not context.is_training or not isinstance(optimizer, kinds):
        return []
    beta, variables = optimizer.beta_2, context.student.trainable_variables
    dtypes = {v.dtype for v in variables}
    # Keras divides by 1 - beta_2^t in the weights' own precision, or multiplies by it.
    lost = {d for d in dtypes if float(ops.cast(ops.cast(beta, d), "float32")) == 1}
    count = sum(variable.dtype in lost for variable in variables)
    if not count:
        return []
    name = type(optimizer).__name__
    message = (
        f"`Distiller`: {count} of the student's {len(variables)} trained weights are "
        f"{sorted(lost)[0]}, in which the `beta_2={beta}` of `{name}` "
        "is 1: its steps would not change them."
    )
    hint = (
        'Give the student weights in float32, by `dtype="mixed_bfloat16"` or LoRA; or '
        "compile it with `beta_2=0.95`."
    )
    return [Issue("optimizer_precision", ERROR, message, hint)]


def check_trainable_weights(student):
    """A student without a weight that a step would change, or with few of them."""
    if not student.built:
        return []
    if student.trainable_variables:
        return _check_frozen_share(student)
    message = (
        "`Distiller`: the student has no trainable weights, so nothing would be "
        "trained."
    )
    hint = "Set `student.trainable = True`, or unfreeze some of its layers."
    return [Issue("no_trainable_weights", ERROR, message, hint)]


def check_adapters(student):
    """LoRA whose adapters are all 0, as Keras's own files leave them."""
    dead = []
    for layer in iter_layers(student):
        if getattr(layer, "lora_enabled", False):
            adapters = [v for v in layer.trainable_variables if "lora" in v.name]
            values = (ops.convert_to_numpy(adapter) for adapter in adapters)
            if adapters and not any(map(np.any, values)):
                dead.append(layer.name)
    if not dead:
        return []
    message = (
        f"`Distiller`: the LoRA adapters of {len(dead)} layers, such as {dead[0]!r}, "
        "are all 0: from there no step changes them. Keras's files hold them added to "
        "the kernels."
    )
    hint = (
        "Assign random numbers to each `lora_kernel_a` again, or let "
        "`callbacks.Resume` keep such a run."
    )
    return [Issue("adapters_of_zero", ERROR, message, hint)]


def _check_frozen_share(student):
    trained, fixed = (
        sum(math.prod(variable.shape) for variable in variables)
        for variables in (student.trainable_weights, student.non_trainable_weights)
    )
    if trained >= fixed:
        return []
    quantized = [v.path for v in student.weights if "int" in str(v.dtype)]
    message = (
        f"`Distiller`: {trained:,} of the student's {trained + fixed:,} weights are "
        "trained; the others are frozen"
    )
    message += f", or quantized as {quantized[0]} is." if quantized else "."
    hint = "If that is not meant, unfreeze them; a model is quantized after training."
    return [Issue("mostly_frozen", WARNING, message, hint)]


def check_teacher_at_chance(outputs, y, weights=None, mask=None):
    """A teacher that is no better than a guess on the labels of the sample.

    `outputs` are the teacher's first, NumPy `(batch, ..., classes)`, or `None`. What
    has a sample weight of 0, or is masked, does not count.
    """
    right = _is_right(outputs, y)
    if right is None:
        return []
    for counted in (weights, mask):
        right = _select_counted(right, counted)
    if right.all():
        return []
    probability = 1 / outputs.shape[-1]
    chance = right.size * probability
    noise = 2 * np.sqrt(chance * (1 - probability))
    if right.sum() > chance + noise:
        return []
    message = (
        f"`Distiller`: on {right.size} samples the teacher is right in "
        f"{right.mean():.1%}, no better than chance ({probability:.1%})."
    )
    hint = (
        "Does it know these classes, in this order? Are the inputs scaled as it "
        "expects? Is it the teacher: `Distiller(teacher, student)`?"
    )
    return [Issue("chance_teacher", WARNING, message, hint)]


def check_regression_outputs(outputs, y, *weights):
    """A teacher of a regression that is hardly better than the labels' mean.

    The arguments are those of `check_teacher_at_chance`.
    """
    if outputs is None or y is None or keras.tree.is_nested(y) or y.dtype.kind == "O":
        return []
    if y.ndim == outputs.ndim - 1:
        y = y[..., None]
    if y.shape != outputs.shape:
        return []
    y = y.astype("float64")
    errors = (outputs - y) ** 2
    spread = (y - y.mean(tuple(range(y.ndim - 1)))) ** 2
    for counted in weights:
        errors, spread = (_select_counted(each, counted) for each in (errors, spread))
    # On another scale, outputs near 0 are about as wrong as the mean.
    if not len(errors) or not errors.mean() > 0.9 * spread.mean() > 0:
        return []
    message = (
        f"`Distiller`: on {len(errors)} samples the teacher's mean squared error from "
        f"the labels is {errors.mean():.3g}; their own variance is {spread.mean():.3g}."
    )
    hint = (
        "Was it trained, on labels of this scale? Are the inputs scaled as it expects? "
        "Is it the teacher: `Distiller(teacher, student)`?"
    )
    return [Issue("poor_teacher", WARNING, message, hint)]


def _select_counted(right, counted):
    """Those of nonzero weights, or of a mask, `(batch,)` or of the same shape."""
    if counted is None or keras.tree.is_nested(counted):
        return right
    counted = np.asarray(counted)
    if right.ndim < counted.ndim or right.shape[: counted.ndim] != counted.shape:
        return right
    return right[counted != 0]


def _is_right(outputs, y):
    """Whether the teacher predicts each label; `None` where no single one is right."""
    if outputs is None or y is None or isinstance(y, dict | list | tuple):
        return None
    if outputs.shape[-1] < 2:
        return None
    if y.shape == outputs.shape:
        if (y.sum(-1) > 1.5).any() or (y.sum(-1) < 0.5).any():
            return None
        y = y.argmax(-1)
    elif y.shape == (*outputs.shape[:-1], 1):
        y = y[..., 0]
    return outputs.argmax(-1) == y if y.shape == outputs.shape[:-1] else None
