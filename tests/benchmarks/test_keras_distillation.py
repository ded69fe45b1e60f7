"""What we say of `keras.distillation`, we do right ourselves."""

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
def test_ours_is_right(experiment):
    finding = experiment()
    assert finding.right, f"{finding.claim}: {finding.ours}"
