"""A fault in a batch that no check saw before training."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller, InteractiveDistiller
from keras_dtkd.losses import KD
from tests.tiny_models import data, numbers, same, student, teacher

pytestmark = [pytest.mark.graph, pytest.mark.invariant(number=10)]
X, Y = data(32)


def compiled(ignored=None):
    small = student()
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=ignored
    )
    small.compile("sgd", loss)
    return Distiller(teacher(), small, KD())


@pytest.mark.parametrize("label", [4, 77, -1])
@pytest.mark.parametrize("compiles", [False, True])
def test_a_label_that_is_no_class_stops_a_later_batch(label, compiles):
    wrong = Y.copy()
    wrong[3] = label
    d = compiled() if compiles else Distiller(teacher(), student(), KD())
    before = []

    def batches():
        yield X, Y
        before.extend(numbers(d.student))
        yield X, wrong

    # TensorFlow and PyTorch say so themselves, and name the label.
    with pytest.raises(Exception, match=str(label) if label > 0 else "-1|negative|out"):
        d.fit(batches(), verbose=0)
    assert all(np.isfinite(w).all() for w in numbers(d.student))
    if keras.backend.backend() == "jax":
        with pytest.raises(ValueError, match="labels of a batch from .* to 3"):
            d.fit(iter([(X, Y), (X, wrong)]), verbose=0)
        state = numbers(d.student)
        with pytest.raises(ValueError, match="labels of a batch"):
            d.train_on_batch(X, Y)
            d.train_on_batch(X, wrong)
        assert not same(before, d.student) and not same(state, d.student)


def test_labels_that_the_loss_leaves_out_are_no_fault():
    ignored = np.where(np.arange(32) < 3, -1, Y)
    compiled(-1).fit(iter([(X, Y), (X, ignored)]), verbose=0)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="Others raise their own.")
def test_a_label_that_is_no_class_stops_validation_and_a_teacher_that_learns_too():
    wrong = Y.copy()
    wrong[3] = 9
    batches = [(X, Y), (X, wrong)]
    d = compiled()
    with pytest.raises(ValueError, match="labels of a batch"):
        d.evaluate(iter(batches), verbose=0)
    with pytest.raises(ValueError, match="labels of a batch"):
        d.fit(X, Y, validation_data=(batch for batch in batches), verbose=0)
    # What was checked whole is not looked at again.
    d.fit(X, Y, validation_data=(X, Y), verbose=0)
    assert d.preparation_cache.class_ranges == {"train": [], "eval": []}
    other = InteractiveDistiller(student(seed=4), student())
    with pytest.raises(ValueError, match="labels of a batch"):
        other.fit(iter(batches), exam=(X, Y), verbose=0)
