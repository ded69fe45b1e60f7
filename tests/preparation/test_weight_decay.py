"""Weight decay leaves alone what layers of the student exempt."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller, layers
from keras_dtkd.losses import KD, FitNet
from keras_dtkd.temperatures import Curriculum
from tests.layers.attentive import X, Y, convolutions, network
from tests.models.mixtures import mixture
from tests.tensors import numpy
from tests.tiny_models import data, teacher

# A hundredth a step, a hundred times as much as Adam's own.
RATE, DECAY = 1e-4, 100.0


def compiled(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(RATE, weight_decay=DECAY), loss)
    return model


def attentive(**options):
    model = layers.virtual_attention(compiled(network(**options)), blocks=2)
    for layer in convolutions(model):
        layer.theta.assign([[3.0, 0.0], [0.0, 3.0]])
    return model


def assert_exempt(before, model, steps):
    """That every `theta` moved by the gradient alone, and kernels decayed."""
    after = [numpy(v) for v in model.trainable_variables]
    names = [v.name for v in model.trainable_variables]
    for name, old, new in zip(names, before, after, strict=True):
        if name == "theta":
            np.testing.assert_allclose(new, old, atol=2 * steps * RATE)
        if name == "kernel":
            decayed = (1 - RATE * DECAY) ** steps * old
            np.testing.assert_allclose(new, decayed, atol=2 * steps * RATE)
    assert {"theta", "kernel"} <= set(names)


@pytest.mark.parametrize(
    "losses",
    [
        lambda: KD(),
        lambda: KD(Curriculum()),
        lambda: [KD(), FitNet([("conv1", "conv2")])],
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_attention_of_filters_is_exempt_with_any_loss_and_precision(dtype, losses):
    keras.config.set_dtype_policy(dtype)
    try:
        student, large = attentive(), network(seed=1)
    finally:
        keras.config.set_dtype_policy("float32")
    before = [numpy(v) for v in student.trainable_variables]
    d = Distiller(large, student, losses())
    d.fit(X, Y, epochs=5, verbose=0)
    # In float16, a step that overflows is left out.
    assert_exempt(before, student, int(d.optimizer.iterations))


@pytest.mark.single_backend
def test_attention_of_tasks_is_exempt():
    (x, y), student = data(16), compiled(mixture())
    before = [numpy(v) for v in student.trainable_variables]
    Distiller(teacher(), student, KD()).fit(x, y, epochs=5, verbose=0)
    assert_exempt(before, student, 5)


@pytest.mark.parametrize("losses", [KD, lambda: KD(Curriculum())])
def test_it_is_exempt_after_loading(losses, tmp_path):
    keras.utils.set_random_seed(0)
    d = Distiller(network(seed=1), attentive(), losses())
    d.fit(X, Y, epochs=2, shuffle=False, verbose=0)
    d.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    loaded.teacher = d.teacher
    before = [numpy(v) for v in loaded.student.trainable_variables]
    for each in (loaded, d):
        options = {"initial_epoch": 2, "epochs": 5, "shuffle": False, "verbose": 0}
        each.fit(X, Y, **options)
    assert_exempt(before, loaded.student, 3)
    pairs = zip(loaded.get_weights(), d.get_weights(), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)
    assert int(loaded.student.optimizer.iterations) == int(
        d.student.optimizer.iterations
    )


@pytest.mark.single_backend
def test_a_model_exempts_variables_of_its_own():
    student = compiled(network())
    kernel = student.get_layer("conv1").kernel
    student.variables_without_weight_decay = lambda: [kernel]
    before = numpy(kernel)
    Distiller(network(seed=1), student, KD()).fit(X, Y, epochs=5, verbose=0)
    np.testing.assert_allclose(numpy(kernel), before, atol=10 * RATE)
