"""Networks whose initial values do not matter."""

import keras
import numpy as np
import pytest


@pytest.fixture
def zero_initializers(monkeypatch):
    """Initializes kernels with zeros: JAX would compile random ones for each shape."""

    def zeros(*args, **kwargs):
        return lambda shape, dtype=None: np.zeros(shape, dtype)

    monkeypatch.setattr(keras.initializers, "RandomNormal", zeros)
    monkeypatch.setattr(keras.initializers, "RandomUniform", zeros)
