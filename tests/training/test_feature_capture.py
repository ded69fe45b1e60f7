"""Outputs of inner layers, from the one forward pass."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.core.layer_tree import find_layer
from keras_dtkd.losses import KD, DistillationLoss
from keras_dtkd.training import feature_capture
from tests.tiny_models import (
    CLASSES,
    FEATURES,
    Counting,
    close,
    data,
    distiller,
    everything,
    numbers,
    student,
    teacher,
)

X, Y = data(16)


class Nested(keras.Model):
    def __init__(self):
        super().__init__()
        self.body = keras.Sequential(
            [keras.layers.Dense(5, name="deep"), keras.layers.Dense(4, name="next")],
            name="body",
        )
        self.head = keras.layers.Dense(CLASSES, name="head")

    def call(self, inputs):
        return self.head(self.body(inputs))


def test_layers_at_any_depth_are_captured():
    model = Nested()
    model(X)
    with feature_capture.capture(model, ["deep", "head"]) as features:
        outputs = model(X)
    shapes = {k: [tuple(v.shape) for v in calls] for k, calls in features.items()}
    assert shapes == {"deep": [(16, 5)], "head": [(16, CLASSES)]}
    assert features["head"][0] is outputs


def test_the_model_is_afterwards_as_it_was_even_after_an_error():
    model = teacher(compiled=True)
    model(X)
    before = everything(model)
    with feature_capture.capture(model, [model.layers[1].name]):
        model(X)
    assert everything(model) == before
    with (
        pytest.raises(ZeroDivisionError),
        feature_capture.capture(model, ["dropout"][:0]),
    ):
        raise ZeroDivisionError
    with (
        pytest.raises(ValueError),
        feature_capture.capture(model, [model.layers[1].name]),
    ):
        raise ValueError
    assert everything(model) == before


def test_an_unknown_layer_is_named_with_those_there_are():
    with pytest.raises(ValueError, match="no layer 'depe'.*body, deep, next, head"):
        find_layer(Nested(), "depe")


class Block(keras.layers.Layer):
    """A layer with a layer in it."""

    def __init__(self):
        super().__init__()
        self.steps = {"first": [keras.layers.Dense(4, name="inner")]}

    def call(self, x):
        return self.steps["first"][0](x)


def test_a_layer_within_a_layer_is_captured():
    model = keras.Sequential([Block()])
    with feature_capture.capture(model, ["inner"]) as features:
        outputs = model(keras.ops.ones((2, 3)))
    assert features["inner"][-1] is outputs


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_layer_that_is_missing_is_an_error_before_the_first_step(side):
    loss = KD()
    setattr(loss, f"{side}_layers", ("depe",))
    d = Distiller(teacher(), student(), loss)
    message = f"`Distiller`: `kd` needs a layer of the {side} .*"
    message += f"`{side}` has no layer 'depe'"
    with pytest.raises(ValueError, match=message):
        d.fit(X, Y, verbose=0)


class Hints(DistillationLoss):
    """The distance of two hidden layers, through a learned projection."""

    student_layers = ("hint",)
    teacher_layers = ("guide",)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.projection = keras.layers.Dense(6, dtype="float32")
        self.projection.build((None, 5))

    def compute(self, step):
        hint = self.projection(step.student_features["hint"])
        gap = hint - step.teacher_features["guide"]
        return keras.ops.mean(gap**2, axis=-1)


def hinted(name, width):
    counting = Counting(name=f"count_{name}")
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            counting,
            keras.layers.Dense(
                width, name=name, kernel_initializer=keras.initializers.Ones()
            ),
            keras.layers.Dense(
                CLASSES, kernel_initializer=keras.initializers.GlorotUniform(3)
            ),
        ]
    )
    return model, counting


@pytest.mark.invariant(number=1)
def test_a_loss_on_features_trains_its_projection_in_one_pass():
    small, count_small = hinted("hint", 5)
    large, count_large = hinted("guide", 6)
    loss = Hints()
    before = numbers(loss.projection)
    d = Distiller(large, small, loss)
    d.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    d.fit(X, batch_size=16, verbose=0)
    passes = count_small.counts["calls"], count_large.counts["calls"]
    logs = d.fit(X, batch_size=4, epochs=3, verbose=0).history
    assert count_small.counts["calls"] - passes[0] == 12
    assert count_large.counts["calls"] - passes[1] == 12
    assert logs["hints"][-1] < logs["hints"][0]
    assert not close(before, loss.projection)


# Invariant 1, with the losses of `keras.distillation` in our Distiller.


@pytest.mark.invariant(number=1)
def test_a_keras_feature_loss_takes_one_pass_and_gives_keras_value():
    small, count_small = hinted("hint", 6)
    large, count_large = hinted("guide", 6)
    large.layers[1].set_weights([np.full((FEATURES, 6), 0.5), np.zeros(6)])
    before = everything(large)
    loss = keras.distillation.FeatureDistillation(
        loss="mse", teacher_layer_name="guide", student_layer_name="hint"
    )
    d = Distiller(large, small, loss)
    d.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    d.fit(X, verbose=0, batch_size=16)
    passes = count_small.counts["calls"], count_large.counts["calls"]
    logs = d.fit(X, batch_size=16, verbose=0).history
    assert count_small.counts["calls"] - passes[0] == 1
    assert count_large.counts["calls"] - passes[1] == 1
    gap = X.sum(-1) * 0.5
    assert logs["feature_distillation"] == pytest.approx([np.mean(gap**2)], rel=1e-5)
    assert [v for v in everything(large)["variables"]] == before["variables"]


def test_a_keras_logits_loss_gives_keras_value():
    small, large = student(), teacher()
    loss = keras.distillation.LogitsDistillation(
        temperature=2.0, loss=keras.losses.KLDivergence()
    )
    expected = float(keras.ops.convert_to_numpy(loss.compute_loss(large(X), small(X))))
    d = distiller({"kd": loss}, keras.optimizers.SGD(0.0), student=small)
    logs = d.fit(X, Y, batch_size=16, verbose=0).history
    assert logs["kd"] == pytest.approx([expected], rel=1e-4)
    assert logs["loss"][0] == pytest.approx(logs["task_loss"][0] + expected, rel=1e-4)


def test_a_keras_loss_survives_saving(tmp_path):
    large = teacher()
    d = distiller(
        keras.distillation.LogitsDistillation(
            temperature=2.0, loss=keras.losses.KLDivergence()
        ),
        teacher=large,
    )
    expected = d.fit(X, Y, batch_size=16, verbose=0).history
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    loaded.teacher = large
    logs = loaded.fit(X, Y, batch_size=16, verbose=0).history
    assert set(logs) == set(expected)


def test_our_losses_work_in_the_distiller_of_keras():
    from keras_dtkd.losses import KD

    small, large = student(), teacher()
    theirs = keras.distillation.Distiller(
        teacher=large, student=small, distillation_losses=KD(weight=0.5)
    )
    theirs.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = numbers(small)
    logs = theirs.fit(X, Y, batch_size=16, verbose=0).history
    ours = distiller(KD(), keras.optimizers.SGD(0.0))
    expected = ours.fit(X, Y, batch_size=16, verbose=0).history["kd"][0]
    assert logs["distillation_loss"][0] == pytest.approx(0.5 * expected, rel=1e-3)
    assert not close(before, small)


class CollectsCalls(DistillationLoss):
    """Keeps the shapes of the features of a layer that is called twice."""

    student_layers = ("shared",)
    shapes: list = []

    def compute(self, step):
        features = step.student_features["shared"]
        self.shapes.append([tuple(f.shape)[1:] for f in features])
        return keras.ops.mean((features[0] - features[1]) ** 2, axis=-1)


def test_a_layer_that_is_called_twice_has_a_list_of_features():
    inputs = keras.Input((FEATURES,))
    shared = keras.layers.Dense(FEATURES, name="shared")
    outputs = keras.layers.Dense(CLASSES)(shared(shared(inputs)))
    loss = CollectsCalls()
    logs = distiller(loss, student=keras.Model(inputs, outputs)).fit(X, Y, verbose=0)
    assert loss.shapes[0] == [(FEATURES,), (FEATURES,)]
    assert logs.history["collects_calls"][0] > 0
