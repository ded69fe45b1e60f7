"""The experiments on `keras.distillation` give the expected values on `keras_dtkd`."""

import keras
import pytest

from benchmarks import keras_distillation

pytestmark = [
    pytest.mark.skipif(
        not hasattr(keras, "distillation"), reason="Keras without `keras.distillation`"
    ),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.mark.parametrize(
    "experiment", keras_distillation.EXPERIMENTS, ids=lambda e: e.__name__
)
def test_keras_dtkd_gives_the_expected_value(experiment):
    result = experiment()
    assert result.dtkd_is_correct, f"{result.claim}: {result.dtkd_value}"
