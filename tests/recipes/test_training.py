"""Distillers built from recipes train, on every backend."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller, recipes
from keras_dtkd.recipes import TorchSGD
from keras_dtkd.teachers import Ensemble
from tests.tiny_models import (
    CLASSES,
    FEATURES,
    close,
    data,
    numbers,
    same,
    student,
    teacher,
)

# The other variants of DTKD differ in arguments covered by the tests of DTKD.
METHODS = [m for m in recipes.methods() if not m.startswith("dtkd_")]
METHODS += ["dtkd_published", "dtkd_centered_weight", "dtkd_std_all"]
BATCH = 16


@pytest.fixture(scope="module")
def expert():
    return teacher()


def as_image_model(model):
    """The same model on images of 2 by 3 pixels, which views need."""
    layers = [keras.Input((2, 3, 1)), keras.layers.Flatten(), model]
    return keras.Sequential(layers)


def build(method, expert, model=None, **changes):
    recipe = dataclasses.replace(recipes.get(method), batch_size=BATCH, **changes)
    return recipe.build_distiller(expert, model or student(), steps_per_epoch=2)


@pytest.mark.filterwarnings("ignore:.*Standardized.*with 4 classes")
@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_a_step(method, expert):
    before, small, (x, y) = numbers(expert), student(), data(BATCH)
    if method == "r2kd":
        x, small = x.reshape(-1, 2, 3, 1), as_image_model(small)
        model = build(method, as_image_model(expert), model=small)
    else:
        model = build(method, expert, model=small)
    start = numbers(small)
    logs = model.fit(x, y, BATCH, verbose=0).history
    assert np.isfinite([values[0] for values in logs.values()]).all()
    assert not any(same([a], [b]) for a, b in zip(start, numbers(small), strict=True))
    assert same(before, numbers(expert))
    assert (model is small) == (method == "ce")
    if method != "ce":
        assert np.isclose(model.task_weight, recipes.get(method).task_weight)
        assert set(recipes.get(method).distillation_losses) <= set(logs)


def test_step_equals_the_losses_and_torch_sgd(expert):
    small = student()
    model = build("kd", expert, model=small)
    x, y = data(BATCH)
    weights, inputs = numbers(small), x.astype("float64")
    zt = np.asarray(expert.predict(x, verbose=0), "float64")

    def total(w):
        hidden = np.tanh(inputs @ w[0] + w[1])
        z = hidden @ w[2] + w[3]

        def log_softmax(z):
            return z - np.log(np.exp(z).sum(-1, keepdims=True))

        ce = -log_softmax(z)[np.arange(BATCH), y].mean()
        p = log_softmax(zt / 4)
        kl = (np.exp(p) * (p - log_softmax(z / 4))).sum(-1).mean()
        return 0.1 * ce + 0.9 * 16 * kl

    weights, expected = [w.astype("float64") for w in weights], []
    for i, weight in enumerate(weights):
        gradient = np.zeros_like(weight)
        for index in np.ndindex(weight.shape):
            shifted = [[w.copy() for w in weights] for _ in range(2)]
            shifted[0][i][index] += 1e-5
            shifted[1][i][index] -= 1e-5
            gradient[index] = (total(shifted[0]) - total(shifted[1])) / 2e-5
        expected.append(weight - 0.05 * (gradient + 5e-4 * weight))
    model.fit(x, y, BATCH, verbose=0)
    assert close(numbers(small), expected, 2e-6)


def test_r2kd_averages_the_teacher_with_its_pruned_copy(expert):
    model = build("r2kd", expert)
    assert isinstance(model.teacher, Ensemble)
    assert np.allclose(model.teacher.weights, [0.7, 0.3])
    first, pruned = (member.model for member in model.teacher.members)
    assert first is expert
    kernel = pruned.layers[1].get_weights()[0]
    assert (kernel == 0).sum() >= round(0.1 * kernel.size)


def test_student_with_softmax_is_compiled_for_probabilities(expert):
    model = build("kd", expert, model=student(head="softmax"))
    assert model.loss.get_config()["from_logits"] is False
    assert build("kd", expert).loss.get_config()["from_logits"] is True


class OwnStudent(keras.Model):
    """A class of the user's own, whose layers show no output kind."""

    def __init__(self, activation=None, initializer="glorot_uniform"):
        super().__init__()
        layer = keras.layers.Dense
        self.dense = layer(CLASSES, activation, kernel_initializer=initializer)

    def call(self, x):
        return self.dense(x)


def own_student(*args):
    model = OwnStudent(*args)
    model(data(1)[0])
    return model


def reshaped_softmax():
    small = student(head="softmax")
    small.add(keras.layers.Reshape((CLASSES,)))
    return small


OUTPUT_KINDS = {
    "softmax of a class": (lambda: own_student("softmax"), False),
    "reshaped softmax": (reshaped_softmax, False),
    "logits of a class": (own_student, True),
    "logits that begin with zeros": (lambda: own_student(None, "zeros"), True),
}


@pytest.mark.parametrize("method", ["ce", "kd"])
@pytest.mark.parametrize("case", OUTPUT_KINDS)
def test_an_output_kind_that_layers_do_not_show_is_found_by_running(
    case, method, expert
):
    build_student, from_logits = OUTPUT_KINDS[case]
    model = build(method, expert, model=build_student())
    assert model.loss.get_config()["from_logits"] is from_logits
    model.fit(*data(BATCH), BATCH, verbose=0)


def test_a_student_with_several_inputs_is_run(expert):
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    features = keras.Input((FEATURES,), name="features")
    means = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(9, 3)(tokens))
    x = keras.layers.Concatenate()([means, features])
    x = keras.layers.Dense(CLASSES, activation="softmax")(x)
    outputs = keras.layers.Reshape((CLASSES,))(x)
    small = keras.Model({"tokens": tokens, "features": features}, outputs)
    model = build("ce", None, model=small)
    assert model.loss.get_config()["from_logits"] is False


def test_a_student_with_a_fixed_number_of_samples_is_run(expert):
    inputs = keras.Input((3, 2), batch_size=8)
    gru = keras.layers.GRU(CLASSES, stateful=True)
    small = keras.Model(inputs, keras.layers.Reshape((CLASSES,))(2.0 * gru(inputs)))
    model = build("ce", None, model=small)
    assert model.loss.get_config()["from_logits"] is True
    assert not np.any(keras.ops.convert_to_numpy(gru.states[0]))


@pytest.mark.parametrize("method", ["ce", "kd"])
def test_a_student_with_sigmoids_is_refused(method, expert):
    with pytest.raises(ValueError, match="`Recipe`: the student ends with a sigmoid"):
        build(method, expert, model=student("sigmoid"))


def test_a_student_of_a_class_must_be_built(expert):
    with pytest.raises(ValueError, match="is not built.*Call it once on a batch"):
        build("kd", expert, model=OwnStudent())


def test_learned_temperature_does_not_decay(expert):
    # A decay that halves every weight in each step.
    model = build("ctkd", expert, weight_decay=10.0, momentum=0.0)
    (loss,) = model.distillation_losses.values()
    x, y = data(BATCH)
    # Zero gradient: the decay is the only update.
    model.fit(x, y, BATCH, sample_weight=np.zeros(BATCH), verbose=0)
    assert loss.temperature.raw_temperature == 1.0
    (theta,) = loss.temperature.variables_without_weight_decay()
    theta.assign(0.5)
    model.fit(x, y, BATCH, sample_weight=np.zeros(BATCH), verbose=0)
    assert float(keras.ops.convert_to_numpy(theta.value)) == 0.5


def test_training_continues_bit_for_bit_after_reload(expert, tmp_path):
    def fit(model, first, last):
        model.fit(*data(2 * BATCH), BATCH, last, 0, initial_epoch=first, shuffle=False)

    changes = {"milestones": (2, 4), "epochs": 4}
    model = build("ctkd", expert, **changes)
    fit(model, 0, 2)
    model.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    loaded.teacher = expert
    assert isinstance(loaded, Distiller) and type(loaded.optimizer) is TorchSGD
    fit(model, 2, 4)
    fit(loaded, 2, 4)
    assert same(model, loaded)
