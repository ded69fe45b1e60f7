"""Networks are plain Keras models: they save, load, clone and train as such."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller, models
from keras_dtkd.losses import DistillationLoss

X = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
ALONE = """
import sys, keras, numpy as np
model = keras.models.load_model(sys.argv[1])
assert not any(name.startswith("keras_dtkd") for name in sys.modules)
np.save(sys.argv[2], np.concatenate([w.ravel() for w in model.get_weights()]))
"""


def flat(model):
    return np.concatenate([np.array(w).ravel() for w in model.get_weights()])


# ShuffleNets reshape, permute and split; the others are made of less.
@pytest.mark.parametrize("name", ["wrn_16_1", "shufflev2"])
def test_a_saved_network_loads_as_it_was(name, tmp_path):
    model = models.get(name, num_classes=5, data_format="channels_last")
    model.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert loaded.name == name
    assert [v.name for v in loaded.layers] == [v.name for v in model.layers]
    values = [m.predict(X, verbose=0) for m in (model, loaded)]
    assert np.array_equal(*values)


def test_a_saved_network_loads_without_this_package(tmp_path):
    model = models.get("shufflev2", num_classes=5, data_format="channels_last")
    model.save(tmp_path / "network.keras")
    files = str(tmp_path / "network.keras"), str(tmp_path / "weights.npy")
    run = subprocess.run(
        [sys.executable, "-c", ALONE, *files],
        env={**os.environ, "KERAS_BACKEND": keras.config.backend()},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert np.array_equal(np.load(files[1]), flat(model))


def test_a_clone_has_weights_of_its_own():
    model = models.get("shufflev2", num_classes=5)
    clone = keras.models.clone_model(model)
    before = flat(clone)
    model.set_weights([w + 1 for w in model.get_weights()])
    assert np.array_equal(flat(clone), before)


def test_a_training_step_moves_every_kernel():
    model = models.get("shufflev2", num_classes=2, input_shape=(16, 16, 3))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = model.get_weights()
    x = np.random.default_rng(1).normal(size=(8, 16, 16, 3))
    model.fit(x, np.arange(8) % 2, verbose=0)
    # A scale before a ReLU and another batch norm has no gradient, by right.
    moved = {
        weight.path: not np.array_equal(one, other)
        for weight, one, other in zip(
            model.weights, before, model.get_weights(), strict=True
        )
        if weight.path.endswith("kernel")
    }
    assert moved and all(moved.values()), moved


class Between(DistillationLoss):
    """Squared difference of maps before a ReLU."""

    student_layers = teacher_layers = ("stage3_preact",)

    def compute(self, step):
        one, two = step.student_features, step.teacher_features
        (name,) = self.student_layers
        return ops.mean((one[name] - two[name]) ** 2, axis=(1, 2, 3))


def test_a_loss_names_the_stages_of_both_networks():
    teacher, student = (models.get("resnet8", 5) for _ in range(2))
    distiller = Distiller(teacher, student, Between(), task_weight=0.0)
    logs = distiller.fit(X, np.arange(2), verbose=0).history
    assert logs["loss"][0] > 0
