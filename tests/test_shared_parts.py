"""Layers that teacher and student share: frozen ones serve both, others are refused."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.losses import KD
from tests.tiny_models import CLASSES, FEATURES, close, data, numbers, same

pytestmark = [pytest.mark.graph, pytest.mark.invariant(number=9)]
X, Y = data(32)
LAYERS = keras.layers


def backbone(*layers):
    return keras.Sequential(
        [keras.Input((FEATURES,)), LAYERS.Dense(8, activation="relu"), *layers],
        name="backbone",
    )


def headed(body):
    inputs = keras.Input((FEATURES,))
    return keras.Model(inputs, LAYERS.Dense(CLASSES)(body(inputs)))


def fit(large, small, **kwargs):
    d = Distiller(large, small, KD(), **kwargs)
    d.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    d.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    return d


def frozen(*layers):
    body = backbone(*layers)
    body.trainable = False
    return body


@pytest.mark.parametrize("evaluates", [False, True])
def test_a_shared_frozen_backbone_serves_both(evaluates):
    body = frozen(LAYERS.BatchNormalization())
    large, small = headed(body), headed(body)
    before = numbers(large), numbers(small)
    d = fit(large, small, evaluate_distillation=evaluates)
    d.evaluate(X, Y, verbose=0)
    assert same(before[0], large) and not same(before[1], small)
    # As with a backbone of its own.
    twin = keras.models.clone_model(body)
    twin.trainable = False
    apart, own = headed(twin), headed(body)
    twin.set_weights(body.get_weights())
    apart.set_weights(before[0])
    own.set_weights(before[1])
    fit(apart, own, evaluate_distillation=evaluates)
    assert close(own, small, 1e-5)


def test_a_student_may_contain_its_frozen_teacher():
    large = headed(backbone())
    large.trainable = False
    before = numbers(large)
    inputs = keras.Input((FEATURES,))
    small = keras.Model(inputs, LAYERS.Dense(CLASSES)(large(inputs)))
    head = np.array(small.get_weights()[-2])
    d = fit(large, small)
    assert same(before, large)
    assert not np.array_equal(head, small.get_weights()[-2])
    d.evaluate(X, Y, verbose=0)
    d.train_on_batch(X, Y)
    assert same(before, large)


@pytest.mark.parametrize("kind", ["statistics", "random state"])
def test_shared_state_that_a_step_assigns_is_refused(kind):
    layer = {
        # Without gamma and beta it has nothing to train.
        "statistics": LAYERS.BatchNormalization(center=False, scale=False),
        "random state": LAYERS.Dropout(0.5, seed=1),
    }[kind]
    body = backbone(layer)
    body.layers[0].trainable = False
    large, small = headed(body), headed(body)
    before = [numbers(large), numbers(small)]
    with pytest.raises(ValueError, match="share variables that a training step chan"):
        fit(large, small)
    assert same(before[0], large) and same(before[1], small)
    # What the error advises.
    body.trainable = False
    if kind == "random state":
        twin = keras.models.clone_model(body)
        twin.set_weights(body.get_weights())
        body = twin
    fit(large, headed(body))
    assert same(before[0], large)
