"""What every temperature rule does, and what may be given for one."""

import keras
import pytest
from keras import ops

from keras_dtkd import temperatures
from keras_dtkd.losses import KD
from keras_dtkd.temperatures import Constant, Dynamic, Temperature, TemperaturePair
from tests.logit_cases import draw


@keras.saving.register_keras_serializable("tests")
class Doubled(Temperature):
    """Returns its input, and notes the dtype."""

    def call(self, student_logits, teacher_logits):
        top = ops.max(student_logits, axis=-1, keepdims=True)
        return TemperaturePair(top, 2.0 * top, top[..., 0])


def test_a_number_means_the_same_for_every_sample():
    rule = temperatures.get(3)
    assert type(rule) is Constant and rule.temperature == 3.0


def test_a_rule_is_taken_as_it_is():
    rule = Dynamic()
    assert temperatures.get(rule) is rule


def test_a_serialized_rule_is_made_again():
    rule = temperatures.get(keras.saving.serialize_keras_object(Constant(2.5)))
    assert type(rule) is Constant and rule.temperature == 2.5


@pytest.mark.parametrize("value", ["warm", None, [1.0, 2.0]])
def test_anything_else_is_refused_by_its_value(value):
    with pytest.raises(ValueError) as error:
        temperatures.get(value)
    assert f"Received: temperature={value!r}" in str(error.value)


def test_a_rule_without_weights_needs_no_building():
    assert Doubled().built


def test_a_temperature_without_a_single_number_has_an_error_of_its_own():
    class Sharp(Temperature):
        pass

    with pytest.raises(ValueError, match="`Sharp` has no single temperature"):
        KD(temperature=Sharp()).temperature = 2.0


def test_a_temperature_without_call_has_an_error_that_names_it():
    class Empty(Temperature):
        pass

    with pytest.raises(NotImplementedError, match="`Empty` must override `call"):
        Empty()(*draw((8, 100))[:2])


def test_an_epoch_writes_the_hyperparameters_again():
    rule = Constant(3.0)
    rule.hyperparameter("temperature").assign(9.0)
    rule.on_epoch_begin(1, 10)
    assert float(rule.hyperparameter("temperature")) == 3.0
