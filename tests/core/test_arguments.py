"""A configuration made of the constructor's arguments."""

import keras
import pytest

from keras_dtkd.core.arguments import constructor_arguments
from keras_dtkd.losses import KD, DistillationLoss
from keras_dtkd.temperatures import Constant, Dynamic


class Scaled(DistillationLoss):
    def __init__(self, scale=2.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale


class Hidden(Scaled):
    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self._factor = factor


class Configured(Hidden):
    def get_config(self):
        return {**super().get_config(), "factor": self._factor}


class Child(Configured):
    def __init__(self, size=1, **kwargs):
        super().__init__(**kwargs)
        self._size = size


class HiddenTemperature(Constant):
    def __init__(self, factor=1.0, **kwargs):
        super().__init__(4.0 * factor, **kwargs)


class FixedTemperature(KD):
    def __init__(self, divergence="kl"):
        super().__init__(temperature=2.0, divergence=divergence)


def test_arguments_are_read_from_the_attributes_of_their_names():
    config = Scaled(scale=3.0, weight=0.5).get_config()
    assert config["scale"] == 3.0 and config["weight"] == 0.5
    assert Scaled.from_config(config).scale == 3.0


def test_arguments_that_a_constructor_does_not_take_are_left_out():
    config = constructor_arguments(FixedTemperature("jsd"), DistillationLoss)
    assert config == {"divergence": "jsd"}


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_an_argument_that_a_configuration_would_lack_is_an_error():
    message = "`Hidden.*`: the argument `factor` .*`self.factor = factor`.*`get_config`"
    for loss in (Hidden(7.0), KD(HiddenTemperature())):
        with pytest.raises(ValueError, match=message):
            loss.get_config()
    # Nor does the `get_config` of a base class have it.
    with pytest.raises(ValueError, match="`Child`: the argument `size`"):
        Child().get_config()


@pytest.mark.single_backend
def test_a_class_with_a_configuration_of_its_own_may_hide_its_arguments():
    config = Configured(7.0, scale=3.0).get_config()
    assert Configured.from_config(config)._factor == 7.0 and config["scale"] == 3.0


def test_keras_objects_and_functions_are_serialized():
    class Owner:
        def __init__(self, temperature, activation, sizes):
            self.temperature, self.activation = temperature, activation
            self.sizes = sizes

    owner = Owner(Dynamic(4.0), keras.activations.relu, (1, 2))
    config = constructor_arguments(owner, object)
    assert config["temperature"]["class_name"] == "Dynamic"
    assert "relu" in str(config["activation"])
    assert config["sizes"] == [1, 2]
