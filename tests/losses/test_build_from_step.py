"""Weights of losses that depend on the models: built, saved, loaded, trained on."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller
from keras_dtkd.losses import KD, DistillationLoss
from tests.tiny_models import CLASSES, data, numbers, student, teacher

X, Y = data(24)


@keras.saving.register_keras_serializable("tests")
class Hint(DistillationLoss):
    """Compares a student's layer, projected, with the teacher's."""

    student_layers, teacher_layers = ("student_hidden",), ("teacher_hidden",)

    def build_from_step(self, step):
        width = step.teacher_features["teacher_hidden"].shape[-1]
        self.projector = keras.layers.Dense(width, name="projector")
        self.projector.build(step.student_features["student_hidden"].shape)

    def compute(self, step):
        projected = self.projector(step.student_features["student_hidden"])
        return ops.mean((projected - step.teacher_features["teacher_hidden"]) ** 2, -1)


@keras.saving.register_keras_serializable("tests")
class AtFirstCall(DistillationLoss):
    """Makes its projector when it is first called."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.projector = keras.layers.Dense(CLASSES)

    def call(self, student_logits, teacher_logits, labels=None):
        return ops.mean((self.projector(student_logits) - teacher_logits) ** 2, -1)


def models():
    large, small = teacher(), student(dropout=0.3)
    large.layers[1].name, small.layers[0].name = "teacher_hidden", "student_hidden"
    small.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return large, small


def run(d, start, stop):
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    return d.fit(X, Y, initial_epoch=start, epochs=stop, **options).history


def fresh(loss):
    large, small = models()
    d = Distiller(large, small, [loss, KD()])
    d.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return d


@pytest.mark.parametrize("loss", [Hint, AtFirstCall])
def test_a_loaded_run_goes_on_bit_for_bit(loss, tmp_path):
    keras.utils.set_random_seed(0)
    unbroken = fresh(loss())
    run(unbroken, 0, 2)
    unbroken.save(tmp_path / "d.keras")
    expected = run(unbroken, 2, 4)
    loaded = keras.models.load_model(tmp_path / "d.keras")
    loaded.teacher = unbroken.teacher
    projectors = [
        next(iter(m.distillation_losses.values())).projector for m in (unbroken, loaded)
    ]
    assert projectors[1].built
    assert run(loaded, 2, 4) == expected
    for a, b in zip(numbers(unbroken), numbers(loaded), strict=True):
        np.testing.assert_array_equal(a, b)
    kernels = [ops.convert_to_numpy(p.kernel) for p in projectors]
    np.testing.assert_array_equal(*kernels)


@pytest.mark.parametrize("loss", [Hint, AtFirstCall])
@pytest.mark.graph
def test_the_projector_trains_and_is_not_the_students(loss):
    d = fresh(loss())
    run(d, 0, 1)
    projector = next(iter(d.distillation_losses.values())).projector
    before = ops.convert_to_numpy(projector.kernel)
    run(d, 1, 2)
    assert (ops.convert_to_numpy(projector.kernel) != before).any()
    ids = {id(v) for v in d.student.variables}
    assert not any(id(v) in ids for v in projector.variables)


def test_weights_are_built_once_however_often_it_is_prepared():
    loss = Hint()
    d = fresh(loss)
    run(d, 0, 1)
    projector = loss.projector
    d.train_on_batch(X[:5], Y[:5])
    d.compute_losses(ops.convert_to_tensor(X[:3]))
    assert loss.projector is projector


def test_a_loss_without_such_weights_saves_no_step():
    d = fresh(KD(name="other"))
    run(d, 0, 1)
    assert d.get_config()["step_specs"] == {}
