"""A configuration made of the constructor's arguments."""

import keras

from keras_dtkd.core.arguments import constructor_arguments
from keras_dtkd.losses import KD, DistillationLoss
from keras_dtkd.temperatures import Dynamic


class Scaled(DistillationLoss):
    def __init__(self, scale=2.0, unused=None, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale


class FixedTemperature(KD):
    def __init__(self, divergence="kl"):
        super().__init__(temperature=2.0, divergence=divergence)


def test_arguments_are_read_from_the_attributes_of_their_names():
    config = Scaled(scale=3.0, weight=0.5).get_config()
    assert config["scale"] == 3.0 and config["weight"] == 0.5
    assert "unused" not in config
    assert Scaled.from_config(config).scale == 3.0


def test_arguments_that_a_constructor_does_not_take_are_left_out():
    config = constructor_arguments(FixedTemperature("jsd"), DistillationLoss)
    assert config == {"divergence": "jsd"}


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
