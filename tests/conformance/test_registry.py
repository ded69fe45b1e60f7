"""Every public class is in the registry, so that no method misses the suite."""

import importlib
import inspect

import pytest

from keras_dtkd.losses import DistillationLoss, TemperatureLoss
from keras_dtkd.teachers import Teacher
from keras_dtkd.temperatures import Temperature
from keras_dtkd.views import View
from tests.registry import LOSSES, TEACHERS, TEMPERATURES, VIEWS

KINDS = {
    DistillationLoss: LOSSES,
    Temperature: TEMPERATURES,
    View: VIEWS,
    Teacher: TEACHERS,
}
PACKAGES = (
    "losses",
    "temperatures",
    "views",
    "teachers",
    "methods.ikd",
    "methods.rlkd",
)
# Subclassed, not used as they are.
BASES = {DistillationLoss, TemperatureLoss, Temperature, Teacher}


def public_classes(base):
    modules = [importlib.import_module(f"keras_dtkd.{name}") for name in PACKAGES]
    public = [value for module in modules for value in vars(module).values()]
    return {c for c in public if inspect.isclass(c) and issubclass(c, base)} - BASES


@pytest.mark.parametrize("base", KINDS)
def test_every_public_class_is_registered(base):
    registered = {
        type((entry if base is Teacher else entry.build)())
        for entry in KINDS[base].values()
    }
    assert public_classes(base) == registered
