"""What every view promises, and training on all of them at once."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller
from keras_dtkd.losses import KD, DistillationLoss
from tests import tiny_models
from tests.registry import VIEWS

SHAPE, CLASSES = (8, 8, 1), 3
RNG = np.random.default_rng(0)
X = RNG.uniform(0.5, 1.0, size=(16, *SHAPE)).astype("float32")
Y = RNG.integers(CLASSES, size=16)
OPTIONS = {"batch_size": 8, "shuffle": False, "verbose": 0}
EACH = pytest.mark.parametrize("name", VIEWS)
RANDOM = pytest.mark.parametrize("name", [n for n in VIEWS if VIEWS[n].is_random])


def changed(view, x=X):
    return np.array(ops.convert_to_numpy(view(ops.convert_to_tensor(x))))


@EACH
def test_shape_and_dtype_stay(name):
    outputs = changed(VIEWS[name].build())
    assert (outputs.shape, outputs.dtype) == (X.shape, X.dtype)
    assert np.isfinite(outputs).all() and not np.allclose(outputs, X)
    spec = VIEWS[name].build().compute_output_spec(keras.KerasTensor((None, *SHAPE)))
    assert spec.shape == (None, *SHAPE) and spec.dtype == "float32"


@RANDOM
def test_each_batch_is_changed_anew_and_a_seed_repeats_it(name):
    first, second = (VIEWS[name].build(seed=3) for _ in range(2))
    batches = [changed(first) for _ in range(3)]
    assert not np.allclose(batches[0], batches[1])
    for batch in batches:
        assert np.array_equal(changed(second), batch)
    assert not np.allclose(changed(VIEWS[name].build(seed=4)), batches[0])


@EACH
def test_its_name_is_the_class_in_lower_case_unless_given(name):
    view = VIEWS[name].build()
    assert view.name == type(view).__name__.lower()
    assert VIEWS[name].build(name="strong").name == "strong"


def network(seed):
    start = keras.initializers.GlorotUniform(seed)
    layers = [keras.layers.Flatten(), keras.layers.Dense(3, kernel_initializer=start)]
    return keras.Sequential([keras.Input(SHAPE), *layers])


@keras.saving.register_keras_serializable("tests")
class WithoutLabels(DistillationLoss):
    """Refuses labels."""

    def compute(self, step):
        assert step.y is None and step.x.shape[1:] == SHAPE
        return ops.zeros_like(step.student_logits[..., 0])


@pytest.mark.invariant(number=3)
@pytest.mark.invariant(number=8)
@pytest.mark.invariant(number=9)
def test_all_train_and_continue_with_the_next_batch_after_loading(tmp_path):
    views = {
        name: entry.build(**({"seed": 3} if entry.is_random else {}), name=name)
        for name, entry in VIEWS.items()
    }
    losses = {f"on_{name}": KD(view=name) for name in views}
    losses |= {f"no_{name}": WithoutLabels(view=name) for name in views}
    large = network(9)
    before = tiny_models.everything(large)
    distiller = Distiller(large, network(1), losses, views=views, task_weight=0.0)
    distiller.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    ones, zeros = np.ones(16, "float32"), np.zeros(16, "float32")
    distiller.fit(X, Y, sample_weight=zeros, **OPTIONS)
    assert tiny_models.same(distiller.student, network(1))
    logs = distiller.fit(X, Y, sample_weight=ones, **OPTIONS).history
    assert not tiny_models.same(distiller.student, network(1))
    values = [logs[f"on_{name}"][0] for name in views]
    assert np.isfinite(values).all() and len(set(values)) == len(views)
    distiller.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    loaded.teacher = large
    for model in (distiller, loaded):
        model.fit(X, Y, sample_weight=ones, **OPTIONS)
    assert tiny_models.same(distiller, loaded)
    assert tiny_models.everything(large) == before
