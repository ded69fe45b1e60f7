"""Losses, temperatures and views are saved by their arguments, and check them."""

import inspect
import json
from numbers import Real

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd.losses import DistillationLoss
from keras_dtkd.temperatures import Temperature
from keras_dtkd.views import View
from tests.conformance.programs import CASE, LABELS, compute_mean
from tests.registry import LOSSES, TEMPERATURES, VIEWS

pytestmark = pytest.mark.filterwarnings("ignore:`Standardized`")
ENTRIES = {**LOSSES, **TEMPERATURES, **VIEWS}
EACH = pytest.mark.parametrize("name", ENTRIES)
IMAGES = np.random.default_rng(0).uniform(size=(8, 8, 8, 1)).astype("float32")
WRONG_NUMBERS = (-1.0, float("nan"), float("inf"), "much")


def compute(built):
    """What it gives of a batch, NumPy."""
    student, teacher = (ops.convert_to_tensor(z, "float32") for z in CASE[:2])
    if isinstance(built, View):
        outputs = built(ops.convert_to_tensor(IMAGES))
    elif isinstance(built, Temperature):
        outputs = built(student, teacher)
    else:
        outputs = compute_mean(built, student, teacher, ops.convert_to_tensor(LABELS))
    return [np.array(ops.convert_to_numpy(a)) for a in keras.tree.flatten(outputs)]


def from_json(built):
    """The same again, by way of a file's text."""
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(built)))
    return keras.saving.deserialize_keras_object(config)


def hyperparameters(built):
    """The names of the numbers that may be changed."""
    return [] if isinstance(built, View) else built.hyperparameter_names()


def parameters(built):
    """The arguments of its class, and of its base."""
    signatures = [inspect.signature(type(built).__init__)]
    if isinstance(built, DistillationLoss):
        signatures.append(inspect.signature(DistillationLoss.__init__))
    found = [p for s in signatures for p in s.parameters.values() if p.name != "self"]
    return {p.name for p in found if p.kind is not inspect.Parameter.VAR_KEYWORD}


def changed(value):
    """Another number that any class with this one accepts."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return 2 * value or 1
    return 0.75 * value or 0.5


@EACH
def test_a_configuration_gives_the_same_object(name):
    options = {"name": "other"}
    if name in LOSSES:
        options |= {"weight": 0.5, "warmup_epochs": "auto", "view": "strong"}
    if "seed" in parameters(ENTRIES[name].build()):
        options["seed"] = 3
    built = ENTRIES[name].build(**options)
    numbers = [n for n in hyperparameters(built) if n in parameters(built)]
    for number in numbers:
        if isinstance(getattr(built, number), float):
            setattr(built, number, changed(getattr(built, number)))
    restored = from_json(built)
    assert type(restored) is type(built)
    assert restored.get_config() == built.get_config()
    for attribute in [*options, *numbers]:
        if attribute != "seed":
            assert getattr(restored, attribute) == getattr(built, attribute)
    for one, other in zip(compute(restored), compute(built), strict=True):
        assert np.array_equal(one, other)


@EACH
def test_every_argument_is_in_the_configuration(name):
    built = ENTRIES[name].build()
    assert parameters(built) <= built.get_config().keys()


@EACH
def test_every_number_in_a_configuration_stays_at_its_name(name):
    built = ENTRIES[name].build()
    config = json.loads(json.dumps(built.get_config()))
    for key in parameters(built) & config.keys():
        if not isinstance(config[key], Real):
            continue
        other = {**config, key: changed(config[key])}
        try:
            restored = type(built).from_config(json.loads(json.dumps(other)))
        except (TypeError, ValueError) as error:
            # Another argument forbids it.
            assert f"`{type(built).__name__}`" in str(error)
            continue
        assert json.loads(json.dumps(restored.get_config())) == other


@pytest.mark.invariant(number=10)
@EACH
def test_wrong_numbers_are_refused_with_argument_and_value(name):
    built = ENTRIES[name].build()
    for number in hyperparameters(built):
        before = getattr(built, number)
        for wrong in WRONG_NUMBERS:
            message = f"`{type(built).__name__}`: .*{number}={wrong!r}"
            with pytest.raises(ValueError, match=message):
                setattr(built, number, wrong)
            if number in parameters(built):
                with pytest.raises(ValueError, match=message):
                    ENTRIES[name].build(**{number: wrong})
        assert getattr(built, number) == before


@pytest.mark.invariant(number=10)
@EACH
def test_wrong_arguments_are_refused_with_their_value(name):
    build, wrong = ENTRIES[name].build, dict(ENTRIES[name].wrong)
    if name in LOSSES:
        wrong["warmup_epochs"] = [-1, "slow", float("nan"), None]
    if "temperature" in parameters(build()):
        wrong["temperature"] = [0.0, -4.0, float("nan"), "warm"]
    for argument, values in wrong.items():
        for value in values:
            with pytest.raises(ValueError, match=argument) as error:
                build(**{argument: value})
            # Of several numbers, the message may name the wrong one.
            is_several = isinstance(value, tuple)
            assert f"{argument}={'' if is_several else repr(value)}" in str(error.value)


@EACH
def test_two_objects_share_nothing(name):
    one, other = ENTRIES[name].build(), ENTRIES[name].build()
    ids = {id(variable) for variable in one.variables}
    assert not ids & {id(variable) for variable in other.variables}


@pytest.mark.invariant(number=7)
@pytest.mark.parametrize(
    "name", [n for n in ENTRIES if hasattr(ENTRIES[n].build(), "temperature")]
)
def test_its_temperature_may_be_set_to_a_number(name):
    built = ENTRIES[name].build()
    before = compute(built)[0]
    built.temperature = 3.0
    temperature = built.temperature
    while not isinstance(temperature, float):
        temperature = temperature.temperature
    assert temperature == 3.0
    assert not np.array_equal(compute(built)[0], before)
