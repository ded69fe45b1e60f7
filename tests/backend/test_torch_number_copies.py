"""Under PyTorch a step copies few numbers to the device, which waits for each."""

import keras
import numpy as np
import pytest

from keras_dtkd.losses import DTKD, KD
from tests.tiny_models import data, distiller, student

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "torch", reason="JAX and TensorFlow compile steps."
)

X, Y = data(16)


def count_copies(model, monkeypatch):
    """How many numbers become tensors in a step, of which an epoch has several."""
    import torch

    count, as_tensor = 0, torch.as_tensor

    def counting(value, *args, **kwargs):
        nonlocal count
        count += isinstance(value, int | float)
        return as_tensor(value, *args, **kwargs)

    counts = []
    model.fit(X, Y, batch_size=8, verbose=0)
    for steps in (2, 6):
        x, y = np.tile(X, (steps, 1)), np.tile(Y, steps)
        with monkeypatch.context() as patch:
            patch.setattr(torch, "as_tensor", counting)
            model.fit(x, y, batch_size=16, verbose=0)
        counts.append(count)
        count = 0
    return (counts[1] - counts[0]) / 4


@pytest.mark.parametrize("loss", [KD, DTKD])
def test_losses_add_hardly_any(loss, monkeypatch):
    alone = student()
    alone.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    expected = count_copies(alone, monkeypatch)
    assert expected > 0
    assert count_copies(distiller(loss()), monkeypatch) <= expected + 3
