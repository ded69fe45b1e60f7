"""Samples that come beside those trained on: an exam, held-out ones, validation's."""

import warnings

import keras
import numpy as np

from keras_dtkd.core import arrays
from keras_dtkd.core.arrays import PEEK_SIZE
from keras_dtkd.core.outputs import compute_output_spec
from keras_dtkd.teachers.forward import run_teacher
from keras_dtkd.teachers.model_teacher import ModelTeacher
from keras_dtkd.teachers.sample_ids import model_inputs

# Of the sizes of two sets' numbers: what no two samples of the same data differ by.
MAX_SCALE_RATIO = 8.0


def validate_auxiliary_inputs(who, what, x, sample, models):
    """Refuses inputs that models cannot take or answer; warns of another scale.

    Args:
        who: Who speaks in messages.
        what: Whose inputs they are, for messages: `"the exam"`.
        x: The inputs, NumPy, nested as the models take them.
        sample: The `data_peek.Sample` of those trained on, without sample ids.
        models: Keras models by their role, which take the sample.

    Raises:
        ValueError: A model cannot take them, or its outputs for some are NaN.
    """
    validate_input_shapes(who, what, x, sample, models)
    _validate_finite(who, what, x, sample.batch_size, models)
    _warn_scale_mismatch(who, what, x, sample)


def validate_input_shapes(who, what, x, sample, models):
    """Refuses inputs of a form that a model cannot take.

    Args:
        who: See `look`.
        what: See `look`.
        x: Some of the inputs or all, NumPy.
        sample: See `look`.
        models: See `look`.

    Raises:
        ValueError: A model cannot take them.
    """
    if _input_shapes(x) == _input_shapes(sample.x):
        return
    for role, model in models.items():
        error = _forward_error(model, x, sample.batch_size)
        if error is not None:
            raise ValueError(
                f"`{who}`: the {role} cannot take the inputs of {what}: "
                f"{arrays.describe_shapes(x)}. Those trained on are "
                f"{arrays.describe_shapes(sample.x)}. Keras says: {error}"
            ) from error


def validate_validation_data(distiller, given, sample):
    """Refuses validation data of a form that a model cannot take; arrays alone.

    Args:
        distiller: The Distiller, its models looked at.
        given: `validation_data` as `fit` got it.
        sample: The `keras_dtkd.preparation.data_peek.Sample` of those trained on.

    Raises:
        ValueError: A model cannot take it.
    """
    x = given[0] if isinstance(given, list | tuple) and given else None
    if x is None or not arrays.is_arrays(x) or not arrays.num_samples(x):
        return
    models = {"student": distiller.student}
    if distiller.evaluate_distillation:
        heard = distiller.teacher_reference.teacher.models
        models.update((f"teacher{i or ''}", model) for i, model in enumerate(heard))
    x = model_inputs(arrays.take_rows(x, np.arange(1)))
    sample = sample._replace(x=model_inputs(sample.x))
    validate_input_shapes("Distiller", "the validation data", x, sample, models)


def _forward_error(model, x, batch):
    """The error of a model that cannot take inputs, or `None`."""
    try:
        compute_output_spec(model, arrays.take_rows(x, np.resize(0, batch)))
    except Exception as error:  # noqa: BLE001 - whatever a model's own code raises
        try:
            # A call may put right what a specification does not.
            _forward(model, x, np.arange(arrays.num_samples(x)), batch)
        except Exception:  # noqa: BLE001 - likewise; this one shows the numbers
            return error
    return None


def _input_shapes(x):
    return [(path, leaf.shape[1:]) for path, leaf in keras.tree.flatten_with_path(x)]


def _forward(model, x, rows, batch):
    """A model's outputs for a whole batch, NumPy: it may take no other."""
    some = arrays.take_rows(x, np.resize(rows, batch))
    some = keras.tree.map_structure(keras.ops.convert_to_tensor, some)
    outputs = keras.tree.flatten(run_teacher(ModelTeacher(model), some))
    return [
        keras.ops.convert_to_numpy(keras.ops.cast(v, "float32"))
        for v in outputs
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(v.dtype))
    ]


def _validate_finite(who, what, x, batch, models):
    floats = [leaf for leaf in keras.tree.flatten(x) if leaf.dtype.kind == "f"]
    if not floats:
        return
    broken = np.stack([~np.isfinite(v).reshape(len(v), -1).all(-1) for v in floats])
    chosen = np.flatnonzero(broken.any(0))
    if not chosen.size:
        return
    count = f"{chosen.size} of {broken.shape[1]}"
    found = f"{count} inputs of {what} hold NaN or infinity"
    if any(np.isinf(v).any() for v in floats):
        # Finite outputs would prove nothing: a `tanh` bears it, its gradient does not.
        raise ValueError(f"`{who}`: {found}. Replace them, or leave those samples out.")
    for role, model in models.items():
        for values in _forward(model, x, chosen, batch):
            if arrays.has_invalid_logits(values):
                raise ValueError(
                    f"`{who}`: {found}, and the {role}'s outputs for them are not "
                    "finite. Replace them, or leave those samples out."
                )
    warnings.warn(
        f"`{who}`: {found}. The outputs are finite all the same; if the models are not "
        "made for that, replace them.",
        stacklevel=5,
    )


def _warn_scale_mismatch(who, what, x, sample):
    rows = np.linspace(0, arrays.num_samples(x) - 1, PEEK_SIZE).astype(int)
    some = arrays.take_rows(x, np.unique(rows))
    pairs = zip(
        keras.tree.flatten_with_path(some), keras.tree.flatten(sample.x), strict=False
    )
    for (path, leaf), course in pairs:
        kinds = leaf.dtype.kind, course.dtype.kind
        # Two of integers are words, not sizes.
        if "f" not in kinds or not set(kinds) <= set("fiu"):
            continue
        sizes = _typical_magnitudes(leaf), _typical_magnitudes(course)
        if None in sizes:
            continue
        ratios = np.divide(*sizes)
        if ratios.min() > MAX_SCALE_RATIO or ratios.max() < 1 / MAX_SCALE_RATIO:
            name = f" {'/'.join(map(str, path))!r}" if path else ""
            found, usual = (f"{size[0]:.3g}" for size in sizes)
            warnings.warn(
                f"`{who}`: the inputs{name} of {what} have a mean size of {found}, "
                f"those trained on of {usual}. Are both scaled as the models expect?",
                stacklevel=5,
            )


def _typical_magnitudes(values):
    """Mean and median size of the numbers that are not 0; `None` where there are none.

    Few large numbers move the mean alone, two heaps of them the median.
    """
    sizes = np.abs(values[np.isfinite(values) & (values != 0)].astype("float64"))
    return (sizes.mean(), np.median(sizes)) if sizes.size else None
