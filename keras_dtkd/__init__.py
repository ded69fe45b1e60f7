"""Knowledge distillation for Keras 3, with a temperature for each sample."""

try:
    import keras as _keras  # noqa: F401
except ModuleNotFoundError as error:
    if error.name not in ("tensorflow", "jax", "torch"):
        raise
    raise ModuleNotFoundError(
        f"`keras_dtkd`: Keras is set to run on {error.name}, which is not installed. "
        "Install it, or choose another backend before Python starts: "
        "`KERAS_BACKEND=jax` (or torch, tensorflow) in the environment.",
        name=error.name,
    ) from None

from keras_dtkd import (
    attacks,
    backend,
    callbacks,
    datasets,
    distribution,
    functional,
    layers,
    losses,
    methods,
    metrics,
    models,
    plots,
    recipes,
    rollouts,
    students,
    teachers,
    temperatures,
    views,
)
from keras_dtkd._version import __version__
from keras_dtkd.core import logits
from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.diagnostics import diagnose, explain
from keras_dtkd.diagnostics.features import features
from keras_dtkd.distiller import Distiller
from keras_dtkd.losses.output_bias import calibrate_output_bias
from keras_dtkd.methods.ikd import InteractiveDistiller
from keras_dtkd.training.step import Step

__all__ = [
    "Distiller",
    "Hyperparameter",
    "InteractiveDistiller",
    "Step",
    "__version__",
    "attacks",
    "backend",
    "calibrate_output_bias",
    "callbacks",
    "datasets",
    "diagnose",
    "distribution",
    "explain",
    "features",
    "functional",
    "layers",
    "logits",
    "losses",
    "methods",
    "metrics",
    "models",
    "plots",
    "recipes",
    "rollouts",
    "students",
    "teachers",
    "temperatures",
    "views",
]


def __dir__():
    return __all__
