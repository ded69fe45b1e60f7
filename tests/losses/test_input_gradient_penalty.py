"""InputGradientPenalty equals its formula, and needs no teacher's gradient."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller, teachers
from keras_dtkd.losses import KD, InputGradientPenalty
from tests import oracles_networks as networks
from tests import tiny_models


def gradients(name="dense", samples=6):
    """A model, data, and the input gradients of the sum of losses."""
    model, (x, y) = networks.build(name, seed=2), networks.draw_data(name, samples)
    weights = [np.array(w, "float64") for w in model.get_weights()]
    return model, x.astype("float32"), y, networks.gradient(name, weights, x, y)


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("norm", ["per_sample", "batch"])
@pytest.mark.parametrize("name", ["dense", "conv", "layer norm", "attention"])
def test_equals_the_formula(name, norm, squared):
    student, x, y, g = gradients(name)
    loss = InputGradientPenalty(norm=norm, squared=squared)
    d = Distiller(networks.build(name, seed=1), student, {"penalty": loss})
    found = d.compute_losses(ops.convert_to_tensor(x), ops.convert_to_tensor(y))
    if norm == "per_sample":
        lengths = np.linalg.norm(g.reshape(len(g), -1), axis=-1)
        expected = (lengths**2 if squared else lengths).mean()
    else:
        length = np.linalg.norm(g.ravel() / len(g))
        expected = (length**2 if squared else length) / len(g)
    assert float(found["penalty"]) == pytest.approx(expected, rel=1e-4)


def test_training_reduces_the_gradient():
    student, x, y, g = gradients()
    d = Distiller(
        networks.build("dense", 1), student, InputGradientPenalty(), task_weight=0.0
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    d.compile(keras.optimizers.SGD(0.1), loss)
    logs = d.fit(x, y, epochs=10, batch_size=6, verbose=0).history
    lengths = logs["input_gradient_penalty"]
    assert lengths[0] == pytest.approx(np.linalg.norm(g, axis=-1).mean(), rel=1e-4)
    assert lengths[-1] < 0.5 * lengths[0]


@pytest.mark.invariant(number=2)
def test_a_constant_student_has_zero_loss_and_gradient():
    student, x, y, _ = gradients()
    student.set_weights([np.zeros_like(w) for w in student.get_weights()])
    d = Distiller(
        networks.build("dense", 1), student, InputGradientPenalty(), task_weight=0.0
    )
    logs = d.fit(x, y, verbose=0).history
    assert logs["input_gradient_penalty"] == [0.0]
    assert all((w == 0).all() for w in tiny_models.numbers(student))


def test_the_teacher_may_be_stored_outputs():
    x, y = tiny_models.data(16)
    teacher = tiny_models.teacher()
    stored = teachers.Stored(np.asarray(teacher.predict(x, verbose=0)))
    runs = []
    for one in (teacher, stored):
        small = tiny_models.student()
        d = Distiller(one, small, [KD(), InputGradientPenalty(0.1)])
        logs = d.fit(x, y, shuffle=False, verbose=0).history
        assert logs["input_gradient_penalty"][0] > 0
        runs.append(tiny_models.numbers(small))
    assert tiny_models.close(*runs, 1e-5)


@pytest.mark.invariant(number=10)
def test_missing_labels_raise():
    d = Distiller(tiny_models.teacher(), tiny_models.student(), InputGradientPenalty())
    with pytest.raises(ValueError, match="needs labels, and the data has none"):
        d.fit(tiny_models.data(8)[0], verbose=0)
