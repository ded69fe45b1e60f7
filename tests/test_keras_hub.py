"""Models of KerasHub as they are, with random weights."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.attacks import di2_fgsm
from keras_dtkd.datasets import with_columns
from keras_dtkd.losses import FGD, MGD, AdversarialFeatures, BinaryKD, Swing
from keras_dtkd.metrics import score_candidates
from keras_dtkd.views import Stored
from tests.hub_detectors import build_retinanet
from tests.tiny_models import numbers

keras_hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed")

X = np.random.default_rng(0).uniform(size=(4, 32, 32, 3)).astype("float32")
Y = {
    "boxes": np.array([[[4, 4, 20, 20], [10, 8, 30, 25]]] * 4, "float32"),
    "labels": np.array([[0, 2]] * 4),
}


def fit(model):
    options = {"batch_size": 2, "epochs": 1, "shuffle": False, "verbose": 0}
    return model.fit(X, Y, **options).history


def test_a_detector_is_trained_by_its_own_loss_and_decodes_boxes_as_before():
    plain, small = build_retinanet(1), build_retinanet(1)
    expected = fit(plain)
    d = Distiller(build_retinanet(0), small, BinaryKD(weight=0.0, output="cls_logits"))
    logs = fit(d)
    assert set(expected) < set(logs)
    for name, value in expected.items():
        assert logs[name] == pytest.approx(value, rel=1e-4), name
    assert logs["task_loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert max(logs["binary_kd"]) > 0
    for a, b in zip(numbers(plain), numbers(small), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    boxes, reference = d.predict(X, verbose=0), small.predict(X, verbose=0)
    assert set(boxes) == {"boxes", "confidence", "labels", "num_detections"}
    for name, value in reference.items():
        np.testing.assert_array_equal(boxes[name], value)


@pytest.mark.single_backend
def test_levels_of_a_pyramid_teach_and_the_attack_raises_the_loss_of_classes():
    large, small = build_retinanet(0), build_retinanet(1)
    # Boxes that anchors are matched to.
    y = {**Y, "boxes": np.array([[[1, 1, 31, 31], [2, 0, 32, 30]]] * 4, "float32")}
    large.fit(X, y, batch_size=4, epochs=2, verbose=0)
    before = large.evaluate(X, y, verbose=0, return_dict=True)
    options = {"steps": 3, "seed": 0}
    adversarial = di2_fgsm(large, X, y, 8 / 255, **options)
    after = large.evaluate(adversarial, y, verbose=0, return_dict=True)
    assert after["cls_logits_loss"] > before["cls_logits_loss"]
    assert np.abs(adversarial - X).max() <= 8 / 255 + 1e-6
    levels = ["fpn[P3]", "fpn[P4]"]
    which = [FGD(levels), MGD(levels), AdversarialFeatures(levels)]
    d = Distiller(large, small, which, views=Stored("adversarial"))
    x = with_columns(X, adversarial=adversarial)
    logs = d.fit(x, y, batch_size=4, epochs=2, verbose=0).history
    for loss in which:
        assert np.isfinite(logs[loss.name]).all() and logs[loss.name][0] > 0
    boxes = d.predict(X, verbose=0)
    assert set(boxes) == {"boxes", "confidence", "labels", "num_detections"}


def language_model(seed):
    """A GPT-2 of one layer, from token ids and padding mask to logits."""
    keras.utils.set_random_seed(seed)
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=11,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=8,
        max_sequence_length=8,
    )
    return keras_hub.models.GPT2CausalLM(backbone, preprocessor=None)


def test_private_tokens_of_a_language_model_are_hidden_and_measured():
    rng = np.random.default_rng(0)
    tokens, padding = rng.integers(1, 11, (8, 6)), np.ones((8, 6), "int32")
    inputs = {"token_ids": tokens[:, :-1], "padding_mask": padding[:, :-1]}
    private = (tokens[:, 1:] > 8).astype("float32")
    small = language_model(1)
    small.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    d = Distiller(language_model(0), small, Swing("privacy", 1.0, 5.0, noise=0.0))
    x = with_columns(inputs, privacy=private)
    options = {"batch_size": 8, "epochs": 2, "verbose": 0}
    logs = d.fit(x, tokens[:, 1:], **options).history
    mean = 1 + 4 * private.mean()
    assert logs["teacher_temperature"] == pytest.approx([mean, mean], rel=1e-4)
    assert np.isfinite(logs["loss"]).all() and min(logs["swing"]) > 0
    scores = score_candidates(
        small,
        tokens[0, :3],
        np.array([[1, 2], [3, 4]]),
        to_inputs=lambda t: {"token_ids": t, "padding_mask": np.ones_like(t)},
    )
    assert scores.shape == (2,) and (scores < 0).all()
