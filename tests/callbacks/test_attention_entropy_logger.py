"""The entropy of each level is in the logs of each epoch."""

import keras
import numpy as np
import pytest

from keras_dtkd import plots
from keras_dtkd.callbacks import AttentionEntropyLogger, AttentionTemperature
from keras_dtkd.losses import KD
from tests.models.mixtures import attention_of, entropy_of, mixture, thetas
from tests.tiny_models import data, distiller, student

X, Y = data(24)


def test_entropies_are_those_at_the_end_of_the_epoch():
    model, logger = mixture(), AttentionEntropyLogger()
    d = distiller(KD(), keras.optimizers.SGD(0.1), student=model)
    seen = []
    after = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(thetas(model))
    )
    callbacks = [AttentionTemperature(), logger, after]
    logs = d.fit(X, Y, 12, 2, verbose=0, callbacks=callbacks).history
    for number, parents in ((1, 2), (2, 3)):
        name = f"attention_entropy_{number}"
        assert logs[name] == logger.history[name]
        for epoch, value in enumerate(logs[name]):
            d = attention_of(seen[epoch][number - 1], 10 / (epoch + 1))
            expected = entropy_of(d) / np.log(parents)
            assert value == pytest.approx(expected, rel=1e-5)
    assert (seen[0][0] != seen[1][0]).any()


@pytest.mark.single_backend
def test_its_history_can_be_drawn():
    pytest.importorskip("matplotlib")
    model, logger = mixture(), AttentionEntropyLogger()
    model.compile("sgd", "mse")
    y = np.zeros((24, 4))
    for epochs in ((0, 2), (2, 3)):
        options = {"initial_epoch": epochs[0], "epochs": epochs[1]}
        model.fit(X, y, verbose=0, callbacks=[logger], **options)
    assert len(logger.history["attention_entropy_2"]) == 3
    assert len(plots.attention_entropy(logger).axes[0].lines) == 2


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_a_model_without_attention_is_an_error():
    model = student()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="`AttentionEntropyLogger`: 'student' has no"):
        model.fit(X, np.zeros((24, 4)), callbacks=[AttentionEntropyLogger()], verbose=0)


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_a_layer_without_a_method_for_its_attention_is_an_error():
    layer = keras.layers.Dense(4, name="tempered")
    layer.attention_temperature = keras.Variable(1.0, trainable=False)
    model = keras.Sequential([layer])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    with pytest.raises(ValueError, match="has a method `attention`.*'tempered'"):
        model.fit(X, Y, verbose=0, callbacks=[AttentionEntropyLogger()])
