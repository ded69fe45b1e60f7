"""Every public class is in the registry, so that no method misses the suite."""

import importlib
import inspect

import keras
import pytest

from keras_dtkd import views
from keras_dtkd.losses import (
    DistillationLoss,
    FeatureLoss,
    KerasDistillationLoss,
    TemperatureLoss,
)
from keras_dtkd.teachers import Teacher
from keras_dtkd.temperatures import Temperature
from keras_dtkd.views import View
from tests.registry import (
    BOX_LOSSES,
    FEATURE_LOSSES,
    LOSSES,
    METRICS,
    TEACHERS,
    TEMPERATURES,
    VIEWS,
)

KINDS = {
    DistillationLoss: LOSSES | FEATURE_LOSSES | BOX_LOSSES,
    Temperature: TEMPERATURES,
    View: VIEWS,
    Teacher: TEACHERS,
    keras.metrics.Metric: METRICS,
}
PACKAGES = ["losses", "temperatures", "views", "teachers", "metrics"]
PACKAGES += ["methods.ikd", "methods.rlkd"]
# Subclassed, not used as they are; and the wrapper of others' losses.
BASES = {DistillationLoss, FeatureLoss, TemperatureLoss, KerasDistillationLoss}
BASES |= {Temperature, Teacher}
# Shows a column of the data, and nothing that the suite has.
BASES |= {views.Stored}


def public_classes(base):
    modules = [importlib.import_module(f"keras_dtkd.{name}") for name in PACKAGES]
    public = {v for m in modules for v in vars(m).values() if inspect.isclass(v)}
    return {c for c in public if issubclass(c, base)} - BASES


@pytest.mark.parametrize("base", KINDS)
def test_every_public_class_is_registered(base):
    registered = {
        type(getattr(entry, "build", entry)()) for entry in KINDS[base].values()
    }
    # Some are subclassed there.
    registered = {
        next(c for c in cls.__mro__ if c.__module__.startswith("keras_dtkd"))
        for cls in registered
    }
    assert public_classes(base) == registered
