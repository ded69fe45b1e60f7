"""Samples that come beside those trained on: an exam, held-out ones, validation's."""

import warnings

import keras
import numpy as np

from keras_dtkd import backend, data, rows, teachers
from keras_dtkd.outputs import specify

# Of the sizes of two sets' numbers: what no two samples of the same data differ by.
SCALE = 8.0


def look(who, what, x, sample, models):
    """Refuses inputs that models cannot take or answer; warns of another scale.

    Args:
        who: Who speaks in messages.
        what: Whose inputs they are, for messages: `"the exam"`.
        x: The inputs, NumPy, nested as the models take them.
        sample: The `keras_dtkd.data.Sample` of those trained on, without rows.
        models: Keras models by their role, which take the sample.

    Raises:
        ValueError: A model cannot take them, or its outputs for some are NaN.
    """
    takes(who, what, x, sample, models)
    _finite(who, what, x, sample.batch, models)
    _scale(who, what, x, sample)


def takes(who, what, x, sample, models):
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
    if _forms(x) == _forms(sample.x):
        return
    for role, model in models.items():
        error = _refusal(model, x, sample.batch)
        if error is not None:
            raise ValueError(
                f"`{who}`: the {role} cannot take the inputs of {what}: "
                f"{data.forms(x)}. Those trained on are {data.forms(sample.x)}. Keras "
                f"says: {error}"
            ) from error


def validation(distiller, given, sample):
    """Refuses validation data of a form that a model cannot take; arrays alone.

    Args:
        distiller: The Distiller, its models looked at.
        given: `validation_data` as `fit` got it.
        sample: The `keras_dtkd.data.Sample` of those trained on.

    Raises:
        ValueError: A model cannot take it.
    """
    x = given[0] if isinstance(given, list | tuple) and given else None
    if x is None or not data.is_arrays(x) or not data.rows_of(x):
        return
    models = {"student": distiller.student}
    if distiller.evaluate_teacher:
        heard = teachers.base.models(distiller.held.teacher)
        models.update((f"teacher{i or ''}", model) for i, model in enumerate(heard))
    x = rows.inputs(data.take(x, np.arange(1)))
    sample = sample._replace(x=rows.inputs(sample.x))
    takes("Distiller", "the validation data", x, sample, models)


def _refusal(model, x, batch):
    """The error of a model that cannot take inputs, or `None`."""
    try:
        specify(model, data.take(x, np.resize(0, batch)))
    except Exception as error:  # noqa: BLE001 - whatever a model's own code raises
        try:
            # A call may put right what a specification does not.
            _hear(model, x, np.arange(data.rows_of(x)), batch)
        except Exception:  # noqa: BLE001 - likewise; this one shows the numbers
            return error
    return None


def _forms(x):
    return [(path, leaf.shape[1:]) for path, leaf in keras.tree.flatten_with_path(x)]


def _hear(model, x, rows, batch):
    """A model's outputs for a whole batch, NumPy: it may take no other."""
    some = data.take(x, np.resize(rows, batch))
    some = keras.tree.map_structure(keras.ops.convert_to_tensor, some)
    outputs = keras.tree.flatten(backend.hear(teachers.Live(model), some))
    return [
        keras.ops.convert_to_numpy(keras.ops.cast(v, "float32"))
        for v in outputs
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(v.dtype))
    ]


def _finite(who, what, x, batch, models):
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
        for values in _hear(model, x, chosen, batch):
            if data.broken(values):
                raise ValueError(
                    f"`{who}`: {found}, and the {role}'s outputs for them are not "
                    "finite. Replace them, or leave those samples out."
                )
    warnings.warn(
        f"`{who}`: {found}. The outputs are finite all the same; if the models are not "
        "made for that, replace them.",
        stacklevel=5,
    )


def _scale(who, what, x, sample):
    rows = np.linspace(0, data.rows_of(x) - 1, data.SAMPLES).astype(int)
    some = data.take(x, np.unique(rows))
    pairs = zip(
        keras.tree.flatten_with_path(some), keras.tree.flatten(sample.x), strict=False
    )
    for (path, leaf), course in pairs:
        kinds = leaf.dtype.kind, course.dtype.kind
        # Two of integers are words, not sizes.
        if "f" not in kinds or not set(kinds) <= set("fiu"):
            continue
        sizes = _sizes(leaf), _sizes(course)
        if None in sizes:
            continue
        ratios = np.divide(*sizes)
        if ratios.min() > SCALE or ratios.max() < 1 / SCALE:
            name = f" {'/'.join(map(str, path))!r}" if path else ""
            found, usual = (f"{size[0]:.3g}" for size in sizes)
            warnings.warn(
                f"`{who}`: the inputs{name} of {what} have a mean size of {found}, "
                f"those trained on of {usual}. Are both scaled as the models expect?",
                stacklevel=5,
            )


def _sizes(values):
    """Mean and median size of the numbers that are not 0; `None` where there are none.

    Few large numbers move the mean alone, two heaps of them the median.
    """
    sizes = np.abs(values[np.isfinite(values) & (values != 0)].astype("float64"))
    return (sizes.mean(), np.median(sizes)) if sizes.size else None
