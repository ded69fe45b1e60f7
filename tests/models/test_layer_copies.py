"""Copies have weights and variables' paths of their own."""

import keras
import numpy as np
import pytest

from keras_dtkd.models.layer_copies import copy_layer
from tests.tensors import numpy

pytestmark = pytest.mark.single_backend


@pytest.mark.parametrize("kind", ["sequential", "functional"])
def test_copies_of_a_built_model_have_values_and_paths_of_their_own(kind):
    inputs, dense = keras.Input((4,)), keras.layers.Dense(3)
    template = keras.Sequential([inputs, dense])
    if kind == "functional":
        template = keras.Model(inputs, dense(inputs))
    first, second = (copy_layer(template, name) for name in ("first", "second"))
    kernels = [each.layers[-1].kernel for each in (template, first, second)]
    assert len({kernel.path for kernel in kernels}) == 3
    assert kernels[1].path.startswith("first/")
    values = [numpy(kernel) for kernel in kernels]
    assert not any(np.allclose(values[i], values[i - 1]) for i in range(3))
