"""Measurements for validation that need a run of a model."""

import contextlib
import dataclasses
import warnings

import keras
import numpy as np
from keras import ops

from keras_dtkd import backend
from keras_dtkd.core import arrays, logits
from keras_dtkd.core.issue import ERROR, WARNING, Issue, describe_error
from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.core.masking import get_mask
from keras_dtkd.core.output_kind import compute_output_spec
from keras_dtkd.losses.input_gradient_checks import (
    input_gradient_losses,
    model_input_tensors,
    models_with_gradient,
)
from keras_dtkd.rollouts.decoders import FullDecoder, has_cache, make_decoder
from keras_dtkd.teachers.forward import (
    compile_on_jax,
    run_on_sample,
    run_teacher,
)
from keras_dtkd.teachers.inputs import find_input_issues, read_inputs, read_sample
from keras_dtkd.teachers.model_teacher import ModelTeacher
from keras_dtkd.teachers.sample_ids import model_inputs
from keras_dtkd.training.chunked_step import compute_hidden, find_output_embedding
from keras_dtkd.validation.data import check_scale
from keras_dtkd.validation.models import check_teacher_at_chance
from keras_dtkd.validation.task_loss import contradicting_losses

# So many samples show whether a model has an input gradient at all.
PROBE_SIZE = 8
# So many tokens show how logits are made of hidden states; half precision rounds.
HEAD_TOKENS, HEAD_TOLERANCE = 8, 0.02
# The same for logits with a cache of keys and values, in float32.
CACHE_TOLERANCE = 1e-3
# Probabilities so close to each other that two softmaxes in a row leave them alike.
NEARLY_UNIFORM = 1e-3


def build_models(context, strategy):
    """Builds what is not built yet, from the data. Returns issues where it cannot."""
    teachers = () if context.teacher is None else context.teacher.models
    issues = [] if context.teacher is None else find_input_issues(context)
    if issues:
        return issues
    inputs = {"student": context.inputs, "teacher": context.teacher_inputs}
    for role, model in (
        ("student", context.student),
        *(("teacher", m) for m in teachers),
    ):
        if model.built:
            continue
        x = inputs[role]
        try:
            with backend.building_scope(strategy):
                model(arrays.take_rows(x, slice(1)))
        except Exception as error:  # noqa: BLE001 - whatever a model's own code raises
            shapes = keras.tree.map_structure(lambda a: str(np.shape(a)), x)
            message = (
                f"`Distiller`: the {role} is not built, and cannot be from the data, "
                f"whose inputs have the shapes {shapes}."
            )
            hint = f"Call it on a batch first. Keras raised: {describe_error(error)}"
            issues.append(Issue("not_built", ERROR, message, hint, error))
    return issues


def find_heads(context):
    """See `ValidationContext.heads`: measured on a few tokens."""
    x, teacher_x = (
        keras.tree.map_structure(
            lambda a: ops.convert_to_tensor(a[:1, :HEAD_TOKENS]), inputs
        )
        for inputs in (context.inputs, context.teacher_inputs)
    )
    student, teacher = context.student, context.teacher.model
    return {
        "student": _has_head(student, x),
        # A quantized embedding has no gradient: the teacher needs none.
        "teacher": teacher is not None
        and _has_head(teacher, teacher_x, allow_int8=True),
    }


def _has_head(model, x, allow_int8=False):
    """Whether a model's logits are its hidden states times its output embedding."""
    if find_output_embedding(model, allow_int8) is None:
        return False

    def compare(x):
        table = find_output_embedding(model, allow_int8)
        hidden, table = (
            ops.cast(a, "float32") for a in (compute_hidden(model, x), table)
        )
        outputs = ops.cast(model(x, training=False), "float32")
        difference = ops.matmul(hidden, ops.transpose(table)) - outputs
        return ops.max(ops.abs(difference)), ops.max(ops.abs(outputs))

    difference, scale = compile_on_jax(model.variables, compare)(x)
    return bool(difference <= HEAD_TOLERANCE * scale)


def find_caches(context):
    """See `ValidationContext.caches`: measured on a few tokens."""
    token_ids = context.inputs
    if isinstance(token_ids, dict):
        token_ids = token_ids["token_ids"]
    token_ids = ops.convert_to_tensor(token_ids[:1, :HEAD_TOKENS])
    if token_ids.shape[1] < 4:
        return {}
    models = {"student": context.student, "teacher": context.teacher.model}
    return {
        role: _has_right_cache(model, token_ids)
        for role, model in models.items()
        if model is not None and has_cache(model)
    }


def _has_right_cache(model, token_ids):
    """Whether logits that a cache is used for are those of a forward pass."""

    def compare(token_ids):
        mask = ops.ones_like(token_ids, "bool")
        prompts = {"token_ids": token_ids, "padding_mask": mask, "num_tokens": None}
        # Of the last two tokens: what differs at one position would not be seen.
        start = ops.convert_to_tensor(token_ids.shape[1] - 2, "int32")
        cached, full = (
            decoder.score(token_ids, decoder.cache, start, 2)[0]
            for decoder in (make_decoder(model, prompts), FullDecoder(model, prompts))
        )
        return ops.max(ops.abs(cached - full)), ops.max(ops.abs(full))

    difference, scale = compile_on_jax(model.variables, compare)(token_ids)
    is_half = "16" in str(model.compute_dtype)
    tolerance = HEAD_TOLERANCE if is_half else CACHE_TOLERANCE
    return bool(difference <= tolerance * scale)


def find_invalid_weights(teacher):
    """NaN or infinity in the teacher's weights, or in its stored outputs."""
    for variable in teacher.variables:
        if not keras.backend.is_float_dtype(variable.dtype):
            continue
        value, is_stored = variable.value, teacher.variables_name == "stored outputs"
        # In outputs -inf excludes a class.
        value = ops.maximum(value, -1.0) if is_stored else value
        if not bool(ops.all(ops.isfinite(value))):
            message = (
                f"`Distiller`: the teacher's {teacher.variables_name} hold NaN or "
                f"infinity, in {variable.path} first."
            )
            hint = "Store them again." if is_stored else "Load a sound checkpoint."
            return [Issue("teacher_not_finite", ERROR, message, hint)]
    return []


def find_shared_state(context):
    """Variables of the teacher that a step of the student would assign.

    Batch statistics, or random states, of layers that both models have.
    """
    own = {id(variable) for variable in context.student.variables}
    shared = [v for v in context.teacher.variables if id(v) in own]
    if not shared or not context.is_training:
        return []
    batch = arrays.take_rows(context.inputs, slice(context.sample.batch_size))
    x = arrays.to_tensors(batch)
    # The scope keeps what is assigned from the variables.
    with backend.no_grad(), keras.StatelessScope() as scope:
        context.student(x, training=True)
    assigned = [v.path for v in shared if scope.get_current_value(v) is not None]
    if not assigned:
        return []
    message = (
        "`Distiller`: teacher and student share variables that a training step "
        f"changes, among them {assigned[0]}: batch statistics, or the random state of "
        "dropout. The teacher would change."
    )
    hint = (
        "Freeze all that is shared (`layer.trainable = False`), which stops "
        "statistics; with a dropout in it, give the student a copy: "
        "`keras.models.clone_model(shared)`, then `set_weights`."
    )
    return [Issue("shared_weights", ERROR, message, hint)]


def run_student(context):
    """The student's main distilled output for the sample, NumPy, float32."""
    batches = run_on_sample(ModelTeacher(context.student), context.sample)
    outputs = (ops.cast(context.student_spec.select(o), "float32") for o in batches)
    return np.concatenate([ops.convert_to_numpy(output) for output in outputs])


def find_mask(context):
    """The context with the student's mask, where that decides what a teacher knows."""
    spec = context.student_spec
    is_sequence = spec is not None and len(spec.shape) > 2
    if not is_sequence or not check_teacher_at_chance(*context.chance_arguments):
        return context
    sample, masks = context.sample, []
    for start in range(0, arrays.num_samples(sample.x), sample.batch_size):
        batch = arrays.take_rows(sample.x, slice(start, start + sample.batch_size))
        # Not compiled: a mask does not come out of JAX's compiled functions.
        outputs = run_teacher(ModelTeacher(context.student), arrays.to_tensors(batch))
        masks.append(get_mask(spec.select(outputs)))
    if any(mask is None for mask in masks):
        return context
    mask = np.concatenate([ops.convert_to_numpy(mask) for mask in masks])
    return dataclasses.replace(context, mask=mask)


def find_zero_gradients(context):
    """Roles of models that look their inputs up, as tokens: without input gradient."""
    losses = list(input_gradient_losses(context.losses).values())
    if not losses:
        return ()
    specs = context.specs_of(losses[0])
    specs = dict(zip(("student", "teacher"), specs, strict=True))
    x = keras.tree.map_structure(
        lambda a: ops.convert_to_tensor(a[:PROBE_SIZE], "float32"), context.inputs
    )
    roles = []
    models = models_with_gradient(losses, context.student, context.teacher)
    for role, model in models:
        # Any other model would have to be run for it.
        if not any(map(_uses_embedding, iter_layers(model))):
            continue

        def total(x, role=role, model=model, spec=specs[role]):
            x = read_inputs(context.teacher, x) if role == "teacher" else x
            return ops.sum(spec.select_logits(model(x, training=False)) ** 2)

        with keras.StatelessScope():
            _, gradients = backend.value_and_grad(total, x)
        leaves = keras.tree.flatten(gradients)
        if not any(bool(ops.any(ops.not_equal(leaf, 0))) for leaf in leaves):
            roles.append(role)
    return tuple(roles)


def _uses_embedding(layer):
    return isinstance(layer, keras.layers.Embedding) or any(
        not keras.backend.is_float_dtype(tensor.dtype)
        for tensor in model_input_tensors(layer)
    )


def check_auxiliary_inputs(caller, description, x, context, models):
    """Inputs beside the training data's that do not fit it, or the models.

    They have another form, numbers that are not finite, or another scale. `caller` and
    `description` are for messages, `x` is NumPy, `models` has the models by role.
    """
    sample = context.sample._replace(x=context.inputs)
    return _check_forward(caller, description, x, sample, models) or [
        *_check_finite(caller, description, x, sample, models),
        *check_scale(caller, description, x, sample),
    ]


def check_validation_data(context):
    """Validation data of another form than the training data's."""
    x = None if context.validation is None else model_inputs(context.validation.x)
    if x is None or not arrays.is_arrays(x) or not arrays.num_samples(x):
        return []
    x, sample = arrays.take_rows(x, [0]), context.sample._replace(x=context.inputs)
    args = "Distiller", "the validation data"
    issues = _check_forward(*args, x, sample, {"student": context.student})
    if not context.evaluate_distillation:
        return issues
    batch = arrays.take_rows(context.validation.x, [0])
    try:
        x, _ = read_sample(context.teacher, batch)
    except ValueError as error:
        return [*issues, Issue("inputs_do_not_fit", ERROR, str(error), cause=error)]
    teachers = enumerate(context.teacher.models)
    models = {f"teacher{i or ''}": model for i, model in teachers}
    sample = sample._replace(x=context.teacher_inputs)
    return [*issues, *_check_forward(*args, x, sample, models)]


def _check_forward(caller, description, x, sample, models):
    """Models that cannot take inputs, where these have another form than the sample."""
    if _input_shapes(x) == _input_shapes(sample.x):
        return []
    issues = []
    for role, model in models.items():
        try:
            compute_output_spec(model, arrays.take_rows(x, [0] * sample.batch_size))
        except Exception as error:  # noqa: BLE001 - whatever a model's own code raises
            # A call may put right what a specification does not.
            with contextlib.suppress(Exception):
                _forward(model, x, [0], sample)
                continue
            message = (
                f"`{caller}`: the {role} cannot take the inputs of {description}: "
                f"{arrays.describe_shapes(x)}."
            )
            hint = (
                f"Those trained on are {arrays.describe_shapes(sample.x)}. Keras "
                f"raised: {error}"
            )
            issues.append(Issue("inputs_do_not_fit", ERROR, message, hint, error))
    return issues


def _check_finite(caller, description, x, sample, models):
    leaves = [leaf for leaf in keras.tree.flatten(x) if leaf is not None]
    leaves = [leaf for leaf in leaves if leaf.dtype.kind == "f"]
    broken = [~np.isfinite(v).reshape(len(v), -1).all(-1) for v in leaves]
    indices = np.flatnonzero(np.any(broken, axis=0)) if broken else np.arange(0)
    if not indices.size:
        return []
    count = f"{indices.size} of {arrays.num_samples(x)}"
    message = f"`{caller}`: {count} inputs of {description} hold NaN or infinity"
    hint = "Replace them, or leave those samples out."
    for role, model in models.items():
        if any(map(arrays.has_invalid_logits, _forward(model, x, indices, sample))):
            message += f", and the {role}'s outputs for them are not finite."
            return [Issue("inputs_not_finite", ERROR, message, hint)]
    if any(np.isinf(leaf).any() for leaf in leaves):
        # Finite outputs prove nothing: a `tanh` bears it, its gradient does not.
        return [Issue("inputs_not_finite", ERROR, f"{message}.", hint)]
    hint = (
        "The outputs are finite all the same; if the models are not made for that, "
        "replace them."
    )
    return [Issue("inputs_not_finite", WARNING, f"{message}.", hint)]


def _input_shapes(x):
    leaves = keras.tree.flatten_with_path(x)
    return [(path, leaf.shape[1:]) for path, leaf in leaves if leaf is not None]


def _forward(model, x, indices, sample):
    """A model's floating-point outputs for some samples, NumPy."""
    # A whole batch: a model may take no other.
    some = arrays.take_rows(x, np.resize(indices, sample.batch_size))
    some = arrays.to_tensors(some)
    outputs = keras.tree.flatten(run_teacher(ModelTeacher(model), some))
    return [
        ops.convert_to_numpy(ops.cast(v, "float32"))
        for v in outputs
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(v.dtype))
    ]


def find_recovered_outputs(context):
    """Names of outputs for which Keras's loss goes back to the logits by itself.

    It does so under TensorFlow, where nothing (such as a change of dtype) stands
    between a softmax or sigmoid and the loss; `from_logits=True` does no harm there.
    """
    return tuple(
        name
        for name, _, loss, y in contradicting_losses(context)
        if isinstance(loss, keras.losses.Loss) and _recovers(context, name, loss, y)
    )


def _recovers(context, name, loss, y):
    batch = slice(context.sample.batch_size)
    x, y = arrays.take_rows((context.inputs, y), batch)
    x = arrays.to_tensors(x)
    outputs = run_teacher(ModelTeacher(context.student), x)
    names = getattr(context.student, "output_names", None)
    output = logits.select_output(outputs, name, names)
    # The same numbers, without a past.
    plain = ops.convert_to_numpy(output)
    with warnings.catch_warnings():
        # Keras's own, which it gives in the step too.
        warnings.simplefilter("ignore")
        in_step, as_declared = (
            ops.convert_to_numpy(loss(y, p))
            for p in (output, ops.convert_to_tensor(plain))
        )
    # A softmax takes equal numbers for equal numbers: they show nothing.
    spread = np.ptp(plain.astype("float32"), axis=-1).max()
    is_conclusive = plain.shape[-1] == 1 or spread >= NEARLY_UNIFORM
    return not (is_conclusive and np.allclose(in_step, as_declared, rtol=1e-5))
