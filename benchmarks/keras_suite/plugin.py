"""A pytest plugin: `fit`, `evaluate` and their like of each model go by a Distiller.

The model becomes the student; its teacher is a copy with other weights, and the
distillation loss has the weight 0, so that every assertion about the model must hold as
it stands. The Distiller is compiled with what the model was compiled with, the same
objects; of the logs, what only a Distiller has is left out.
"""

import functools
import inspect
import re
import weakref

import keras
import numpy as np

from keras_dtkd import Distiller
from keras_dtkd.core.output_kind import Traced
from keras_dtkd.losses import LogitMSE
from keras_dtkd.teachers import Teacher

ROUTED = ("fit", "evaluate", "predict", "train_on_batch", "test_on_batch")
DISTILLATION_LOGS = {"task_loss", "logit_mse", "agreement"}
_distillers: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_arguments: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_busy = False


class Zeros(Teacher):
    """For a model that cannot be copied: zeros of the shape of its outputs."""

    def __init__(self, student):
        self.student = student
        self.output_names = getattr(student, "output_names", None)
        self.specs = {}

    def outputs(self, x, sample_ids=None):
        shapes = str(
            keras.tree.map_structure(lambda a: a is not None and tuple(a.shape[1:]), x)
        )
        if shapes not in self.specs:
            # First of all outside of a step, in which a model may not be looked at.
            spec = keras.tree.map_structure(
                lambda a: (
                    None
                    if a is None
                    else keras.KerasTensor(
                        a.shape, keras.backend.standardize_dtype(a.dtype)
                    )
                ),
                x,
            )
            self.specs[shapes] = Traced(self.student).compute_output_spec(spec)
        first = next(a for a in keras.tree.flatten(x) if a is not None)
        rows = keras.ops.shape(first)[0]
        return keras.tree.map_structure(
            lambda o: keras.ops.zeros((rows, *o.shape[1:]), o.dtype), self.specs[shapes]
        )

    def fingerprint(self):
        return "zeros"


def _build_teacher(model):
    try:
        teacher = keras.models.clone_model(model)
        rng = np.random.default_rng(0)
        for variable in teacher.trainable_variables:
            noise = rng.normal(scale=0.1, size=variable.shape)
            variable.assign(keras.ops.convert_to_numpy(variable) + noise)
    except Exception:  # noqa: BLE001 - a model of any kind
        return Zeros(model)
    return teacher if teacher.built else Zeros(model)


def _build_distiller(model, **kwargs):
    distiller = Distiller(_build_teacher(model), model, LogitMSE(weight=0.0), **kwargs)
    # Else it takes over what the student was compiled with.
    has_own_loss = type(model).compute_loss is not keras.Model.compute_loss
    if model in _arguments and not has_own_loss:
        # The very optimizer, also where it was given by its name.
        distiller.compile(**{**_arguments[model], "optimizer": model.optimizer})
    return distiller


def _without_distillation(result):
    logs = result.history if isinstance(result, keras.callbacks.History) else result
    if isinstance(logs, dict):
        for name in [n for n in logs if n.removeprefix("val_") in DISTILLATION_LOGS]:
            del logs[name]
    return result


def _route(name, original):
    @functools.wraps(original)
    def method(self, *args, **kwargs):
        global _busy
        if _busy or isinstance(self, Distiller) or not self.compiled:
            return original(self, *args, **kwargs)
        if self not in _distillers:
            _distillers[self] = _build_distiller(self)
        _busy = True
        try:
            try:
                result = getattr(_distillers[self], name)(*args, **kwargs)
            except ValueError as error:
                # Which of several outputs is distilled does not matter here.
                found = re.search(
                    r"Choose one with `output=`. There are: ([^,.]+)", str(error)
                )
                if not found:
                    raise
                output = found[1].strip("'")
                is_repeated = str(error).count(found[1]) > 1
                output = 0 if output.isdigit() or is_repeated else output
                _distillers[self] = _build_distiller(self, output=output)
                result = getattr(_distillers[self], name)(*args, **kwargs)
        finally:
            _busy = False
        return _without_distillation(result)

    return method


def _note_arguments(original):
    @functools.wraps(original)
    def compile(self, *args, **kwargs):
        original(self, *args, **kwargs)
        if not isinstance(self, Distiller):
            given = inspect.signature(original).bind(self, *args, **kwargs).arguments
            nested = given.pop("kwargs", {})
            _arguments[self] = {n: v for n, v in given.items() if n != "self"} | nested
            _distillers.pop(self, None)

    return compile


def pytest_configure(config):
    """Replaces the methods of `keras.Model`."""
    for name in ROUTED:
        setattr(keras.Model, name, _route(name, getattr(keras.Model, name)))
    # Where it is defined: Keras leaves out, when it loads a model, a `compile` that is
    # not its own.
    trainer = next(cls for cls in keras.Model.__mro__ if "compile" in vars(cls))
    trainer.compile = _note_arguments(trainer.compile)
