"""InputGradientAlignment: where there is no input gradient, an error says so."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller, teachers
from keras_dtkd.losses import InputGradientAlignment, InputGradientPenalty
from tests import tiny_models
from tests.tensors import tensor

IGA = InputGradientAlignment
CE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def refused(
    message, teacher=None, student=None, losses=None, x=None, y=None, **options
):
    data = tiny_models.data(8)
    d = Distiller(
        teacher or tiny_models.teacher(),
        student or tiny_models.student(),
        IGA() if losses is None else losses,
        **options,
    )
    with pytest.raises(ValueError, match=message):
        d.fit(data[0] if x is None else x, data[1] if y is None else y, verbose=0)


@pytest.mark.invariant(number=10)
def test_integer_inputs_raise():
    pixels = np.zeros((8, tiny_models.FEATURES), "uint8")
    refused("some of them are uint8. Cast pixels", x=pixels)


def of_integers():
    return keras.Sequential(
        [
            keras.Input((tiny_models.FEATURES,), dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Dense(tiny_models.CLASSES),
        ]
    )


@pytest.mark.invariant(number=10)
def test_models_that_cast_inputs_to_integers_raise():
    pixels = np.zeros((8, tiny_models.FEATURES), "float32")
    found = "the {} takes inputs of uint8.*takes floats"
    refused(found.format("student"), student=of_integers(), x=pixels)
    refused(found.format("teacher"), teacher=of_integers(), x=pixels)
    refused(found.format("teacher"), [tiny_models.teacher(), of_integers()], x=pixels)
    # Of which nobody asks for a gradient.
    d = Distiller(of_integers(), tiny_models.student(), InputGradientPenalty())
    d.fit(pixels, tiny_models.data(8)[1], verbose=0)


def of_tokens():
    layers = [keras.layers.Embedding(9, 5), keras.layers.GlobalAveragePooling1D()]
    inputs = keras.Input((tiny_models.FEATURES,))
    return keras.Sequential([inputs, *layers, keras.layers.Dense(tiny_models.CLASSES)])


@pytest.mark.invariant(number=10)
def test_models_that_embed_their_inputs_raise():
    tokens = np.ones((8, tiny_models.FEATURES), "float32")
    found = "the gradient of the {} with respect to its inputs is 0.*`Embedding`"
    refused(found.format("student"), student=of_tokens(), x=tokens)
    refused(found.format("teacher"), teacher=of_tokens(), x=tokens)
    inner = keras.Sequential([keras.Input((tiny_models.FEATURES,)), of_integers()])
    refused(found.format("student"), student=inner, x=tokens)


def test_an_embedding_of_other_tensors_is_allowed():
    inputs = keras.Input((tiny_models.FEATURES,))
    places = keras.layers.Embedding(tiny_models.FEATURES, 3)
    seen = inputs[..., None] + places(ops.arange(tiny_models.FEATURES))
    outputs = keras.layers.Dense(tiny_models.CLASSES)(keras.layers.Flatten()(seen))
    x, y = tiny_models.data(8)
    d = Distiller(tiny_models.teacher(), keras.Model(inputs, outputs), IGA())
    assert d.fit(x, y, verbose=0).history["input_gradient_alignment"][0] > 0


@pytest.mark.invariant(number=10)
def test_jit_compile_without_second_order_gradients_raises():
    if keras.backend.backend() != "torch":
        pytest.skip("those of the others have one")
    x, y = tiny_models.data(8)
    d = Distiller(tiny_models.teacher(), tiny_models.student(), IGA())
    d.compile("sgd", CE, jit_compile=True)
    with pytest.raises(ValueError, match="`Distiller`: .*`jit_compile=False`"):
        d.fit(x, y, verbose=0)


@pytest.mark.invariant(number=10)
def test_outputs_with_several_positions_raise():
    def model():
        return keras.Sequential([keras.Input((5, 3)), keras.layers.Dense(4)])

    x, y = np.zeros((8, 5, 3), "float32"), np.zeros((8, 5), int)
    refused("have several positions", model(), model(), x=x, y=y)


@pytest.mark.invariant(number=10)
def test_a_view_raises():
    noise = {"noise": keras.layers.GaussianNoise(0.1)}
    refused("not on the view 'noise'", losses=IGA(view="noise"), views=noise)


@pytest.mark.invariant(number=10)
def test_stored_outputs_raise():
    stored = teachers.Stored(np.zeros((8, tiny_models.CLASSES), "float32"))
    refused("its outputs are stored", stored)


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "other", [IGA(labels="teacher"), IGA(estimator="jvp", squared=True)]
)
def test_losses_with_different_input_gradients_raise(other):
    refused("need different input gradients", losses=[IGA(), other])


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "loss", [IGA(), IGA(labels="teacher", teacher_correct_only=True)]
)
def test_missing_labels_raise(loss):
    d = Distiller(tiny_models.teacher(), tiny_models.student(), loss)
    with pytest.raises(ValueError, match="needs labels, and the data has none"):
        d.fit(tiny_models.data(8)[0], verbose=0)
    d = Distiller(tiny_models.teacher(), tiny_models.student(), loss)
    with pytest.raises(ValueError, match="needs labels, and the data has none"):
        d.compute_losses(tensor(tiny_models.data(8)[0]))
