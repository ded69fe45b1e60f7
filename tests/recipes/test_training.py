"""What a recipe builds trains, on every backend."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller, recipes
from keras_dtkd.recipes import TorchSGD
from keras_dtkd.teachers import Ensemble
from tests.tiny_models import close, data, numbers, same, student, teacher

# The other variants of DTKD differ in arguments that tests of DTKD cover.
METHODS = [m for m in recipes.methods() if not m.startswith("dtkd_")]
METHODS += ["dtkd_published", "dtkd_centered_weight", "dtkd_std_all"]
BATCH = 16


@pytest.fixture(scope="module")
def expert():
    return teacher()


def of_images(model):
    """The same model of the same numbers as pictures of 2 by 3: views need those."""
    layers = [keras.Input((2, 3, 1)), keras.layers.Flatten(), model]
    return keras.Sequential(layers)


def built(method, expert, of=None, **changes):
    recipe = dataclasses.replace(recipes.get(method), batch_size=BATCH, **changes)
    return recipe.distiller(expert, of or student(), steps_per_epoch=2)


@pytest.mark.filterwarnings("ignore:.*Standardized.*with 4 classes")
@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_a_step(method, expert):
    before, taught, (x, y) = numbers(expert), student(), data(BATCH)
    if method == "r2kd":
        x, taught = x.reshape(-1, 2, 3, 1), of_images(taught)
        model = built(method, of_images(expert), of=taught)
    else:
        model = built(method, expert, of=taught)
    start = numbers(taught)
    logs = model.fit(x, y, BATCH, verbose=0).history
    assert np.isfinite([values[0] for values in logs.values()]).all()
    assert not any(same([a], [b]) for a, b in zip(start, numbers(taught), strict=True))
    assert same(before, numbers(expert))
    assert (model is taught) == (method == "ce")
    if method != "ce":
        assert np.isclose(model.task_weight, recipes.get(method).task_weight)
        assert set(recipes.get(method).distillation_losses) <= set(logs)


def test_a_step_is_that_of_the_losses_and_torch_s_sgd(expert):
    taught = student()
    model = built("kd", expert, of=taught)
    x, y = data(BATCH)
    weights, inputs = numbers(taught), x.astype("float64")
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
        slope = np.zeros_like(weight)
        for index in np.ndindex(weight.shape):
            shifted = [[w.copy() for w in weights] for _ in range(2)]
            shifted[0][i][index] += 1e-5
            shifted[1][i][index] -= 1e-5
            slope[index] = (total(shifted[0]) - total(shifted[1])) / 2e-5
        expected.append(weight - 0.05 * (slope + 5e-4 * weight))
    model.fit(x, y, BATCH, verbose=0)
    assert close(numbers(taught), expected, 2e-6)


def test_r2kd_listens_to_the_pruned_copy_too(expert):
    model = built("r2kd", expert)
    assert isinstance(model.teacher, Ensemble)
    assert np.allclose(model.teacher.weights, [0.7, 0.3])
    first, pruned = (member.model for member in model.teacher.members)
    assert first is expert
    kernel = pruned.layers[1].get_weights()[0]
    assert (kernel == 0).sum() >= round(0.1 * kernel.size)


def test_a_student_of_probabilities_learns_from_them(expert):
    model = built("kd", expert, of=student(head="softmax"))
    assert model.loss.get_config()["from_logits"] is False
    assert built("kd", expert).loss.get_config()["from_logits"] is True


def test_a_learned_temperature_does_not_decay(expert):
    # A decay that halves every weight a step.
    model = built("ctkd", expert, weight_decay=10.0, momentum=0.0)
    (loss,) = model.distillation_losses.values()
    x, y = data(BATCH)
    # Without a gradient: decay is all there is.
    model.fit(x, y, BATCH, sample_weight=np.zeros(BATCH), verbose=0)
    assert loss.temperature.raw == 1.0
    (theta,) = loss.temperature.variables_without_weight_decay()
    theta.assign(0.5)
    model.fit(x, y, BATCH, sample_weight=np.zeros(BATCH), verbose=0)
    assert float(keras.ops.convert_to_numpy(theta.value)) == 0.5


def test_a_distiller_goes_on_from_a_file_bit_for_bit(expert, tmp_path):
    def fit(model, first, last):
        model.fit(*data(2 * BATCH), BATCH, last, 0, initial_epoch=first, shuffle=False)

    changes = {"milestones": (2, 4), "epochs": 4}
    model = built("ctkd", expert, **changes)
    fit(model, 0, 2)
    model.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras")
    again.teacher = expert
    assert isinstance(again, Distiller) and type(again.optimizer) is TorchSGD
    fit(model, 2, 4)
    fit(again, 2, 4)
    assert same(model, again)
