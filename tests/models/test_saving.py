"""Networks are plain Keras models: they save, load, clone and train as such."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller, models
from keras_dtkd.losses import DistillationLoss

X = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")


def flat_weights(model):
    return np.concatenate([np.array(w).ravel() for w in model.get_weights()])


# ShuffleNets reshape, permute and split; the others use fewer kinds of layers.
@pytest.mark.parametrize("name", ["wrn_16_1", "shufflev2"])
def test_a_saved_network_loads_unchanged(name, tmp_path):
    model = models.get(name, num_classes=5, data_format="channels_last")
    model.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert loaded.name == name
    assert [v.name for v in loaded.layers] == [v.name for v in model.layers]
    outputs = [m.predict(X, verbose=0) for m in (model, loaded)]
    assert np.array_equal(*outputs)


def modules(config):
    """All modules that a serialized model is loaded from."""
    if isinstance(config, list):
        return {name for value in config for name in modules(value)}
    if not isinstance(config, dict):
        return set()
    names = {name for value in config.values() for name in modules(value)}
    return names | ({config["module"]} if config.get("module") else set())


@pytest.mark.parametrize(
    "name", ["resnet8", "wrn_16_1", "vgg8", "mobilenetv2", "shufflev1", "shufflev2"]
)
def test_a_saved_network_loads_without_this_package(name):
    text = models.get(name).to_json()
    assert "keras_dtkd" not in text
    assert {m.split(".")[0] for m in modules(json.loads(text))} == {"keras"}


def test_a_clone_shares_no_weights():
    model = models.get("shufflev2", num_classes=5)
    clone = keras.models.clone_model(model)
    before = flat_weights(clone)
    model.set_weights([w + 1 for w in model.get_weights()])
    assert np.array_equal(flat_weights(clone), before)


def test_a_training_step_updates_every_kernel():
    model = models.get("shufflev2", num_classes=2, input_shape=(16, 16, 3))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = model.get_weights()
    x = np.random.default_rng(1).normal(size=(8, 16, 16, 3))
    model.fit(x, np.arange(8) % 2, verbose=0)
    # A scale between a ReLU and another batch norm has a zero gradient.
    is_updated = {
        variable.path: not np.array_equal(old, new)
        for variable, old, new in zip(
            model.weights, before, model.get_weights(), strict=True
        )
        if variable.path.endswith("kernel")
    }
    assert is_updated and all(is_updated.values()), is_updated


class PreActivationMSE(DistillationLoss):
    """Mean squared difference of feature maps before a ReLU."""

    student_layers = teacher_layers = ("stage3_preact",)

    def compute(self, step):
        (name,) = self.student_layers
        difference = step.student_features[name] - step.teacher_features[name]
        return ops.mean(difference**2, axis=(1, 2, 3))


def test_a_loss_captures_the_stages_of_both_networks():
    teacher, student = (models.get("resnet8", 5) for _ in range(2))
    distiller = Distiller(teacher, student, PreActivationMSE(), task_weight=0.0)
    logs = distiller.fit(X, np.arange(2), verbose=0).history
    assert logs["loss"][0] > 0
