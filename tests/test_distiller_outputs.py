"""Models with several inputs or outputs, and models of the user's own class."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.losses import DTKD, KD
from tests.tiny_models import (
    CLASSES,
    FEATURES,
    close,
    data,
    distiller,
    numbers,
    student,
    teacher,
    two_outputs,
)

LOSSES = {
    "label": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "size": "mse",
}


def targets(kind, samples=16):
    x, y = data(samples)
    size = np.abs(x).sum(-1, keepdims=True)
    return x, {"label": y, "size": size} if kind == "dict" else [y, size]


def compiled(model, kind, **options):
    losses = LOSSES if kind == "dict" else list(LOSSES.values())
    model.compile(keras.optimizers.SGD(0.05), losses, **options)
    return model


@pytest.mark.parametrize("kind", ["dict", "list"])
@pytest.mark.graph
def test_the_task_loss_is_kerass_own_for_every_output(kind):
    x, y = targets(kind)
    options = {"loss_weights": {"label": 1.0, "size": 0.5}}
    if kind == "list":
        options = {"loss_weights": [1.0, 0.5]}
    plain = compiled(two_outputs(kind), kind, **options)
    small = compiled(two_outputs(kind), kind, **options)
    expected = plain.fit(x, y, batch_size=16, verbose=0).history
    d = Distiller(two_outputs(kind, 9), small, KD(weight=0.0), output="label")
    logs = d.fit(x, y, batch_size=16, verbose=0).history
    assert close(plain, small)
    for name, value in expected.items():
        assert logs[name] == pytest.approx(value, rel=1e-5), name
    assert logs["task_loss"] == pytest.approx(expected["loss"], rel=1e-5)


@pytest.mark.parametrize("kind", ["dict", "list"])
def test_only_the_chosen_output_is_distilled(kind):
    x, _ = targets(kind)
    small = two_outputs(kind)
    before = numbers(small)
    d = Distiller(two_outputs(kind, 9), small, DTKD(), output="label")
    d.compile(keras.optimizers.SGD(0.1))
    d.fit(x, verbose=0)
    moved = [
        not np.array_equal(a, b) for a, b in zip(before, numbers(small), strict=True)
    ]
    label, size = (
        [v.path for v in small.weights].index(f"{name}/kernel")
        for name in ("label", "size")
    )
    assert moved[label] and not moved[size]


def test_an_output_may_be_named_by_its_index():
    x, y = targets("list")
    runs = []
    for key in ("label", 0):
        small = compiled(two_outputs("list"), "list")
        d = Distiller(two_outputs("list", 9), small, KD(), output=key)
        d.fit(x, y, batch_size=16, verbose=0)
        runs.append(numbers(small))
    assert close(*runs)


def test_outputs_of_one_layer_are_known_by_their_number():
    def model(seed):
        inputs = keras.Input((FEATURES,))
        layer = keras.layers.Dense(
            CLASSES, kernel_initializer=keras.initializers.GlorotUniform(seed), name="a"
        )
        return keras.Model(inputs, [layer(inputs), layer(2 * inputs)])

    x, y = data(16)
    small = model(1)
    small.compile(keras.optimizers.SGD(0.05), [LOSSES["label"]] * 2)
    with pytest.raises(ValueError, match="There are: 0, 1"):
        Distiller(model(7), small, KD()).fit(x, [y, y], verbose=0)
    d = Distiller(model(7), small, KD(), output=1)
    d.fit(x, [y, y], verbose=0)
    expected = small.evaluate(x, [y, y], verbose=0)
    assert d.evaluate(x, [y, y], verbose=0) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["dict", "list"])
def test_weights_of_the_chosen_output_reach_its_distillation(kind):
    x, y = targets(kind)
    weights = np.linspace(0, 2, 16).astype("float32"), np.ones(16, "float32")
    nested = list(weights)
    if kind == "dict":
        nested = {"label": weights[0], "size": weights[1]}
    small = compiled(two_outputs(kind), kind)
    d = Distiller(two_outputs(kind, 9), small, KD(), output="label")
    logs = d.fit(x, y, sample_weight=nested, batch_size=16, verbose=0).history

    # The same distillation of a model that has that output alone.
    whole = two_outputs(kind)
    outputs = whole.output["label"] if kind == "dict" else whole.output[0]
    alone = distiller(
        KD(),
        teacher=only_label(two_outputs(kind, 9), kind),
        student=keras.Model(whole.input, outputs),
    )
    expected = alone.fit(
        x, data()[1][:16], sample_weight=weights[0], batch_size=16, verbose=0
    ).history
    assert logs["kd"] == pytest.approx(expected["kd"], rel=1e-5)
    assert logs["agreement"] == pytest.approx(expected["agreement"], rel=1e-5)


def only_label(model, kind):
    outputs = model.output["label"] if kind == "dict" else model.output[0]
    return keras.Model(model.input, outputs)


def test_one_teacher_output_is_distilled_into_one_of_several():
    x, y = targets("dict")
    small = compiled(two_outputs("dict"), "dict")
    d = Distiller(teacher(), small, KD(), output="label")
    logs = d.fit(x, y, batch_size=8, verbose=0).history
    assert logs["kd"][0] > 0


def test_one_of_several_teacher_outputs_is_distilled_into_one():
    x, y = data(16)
    d = Distiller(two_outputs("dict", 9), student(), KD(), output="label")
    assert d.fit(x, y, verbose=0).history["kd"][0] > 0


def test_metrics_and_losses_are_named_by_output():
    x, y = targets("dict")
    small = compiled(
        two_outputs("dict"), "dict", metrics={"label": "accuracy", "size": "mae"}
    )
    d = Distiller(two_outputs("dict", 9), small, KD(), output="label")
    logs = d.fit(x, y, validation_data=(x, y), verbose=0).history
    own = {"loss", "label_loss", "size_loss", "label_accuracy", "size_mae"}
    assert {f"val_{name}" for name in own} == {n for n in logs if n[:4] == "val_"}
    assert own < set(logs)


def named_inputs(seed):
    inputs = {name: keras.Input((FEATURES,), name=name) for name in ("a", "b")}
    outputs = keras.layers.Dense(
        CLASSES, kernel_initializer=keras.initializers.GlorotUniform(seed)
    )(keras.layers.Concatenate()([inputs["a"], inputs["b"]]))
    return keras.Model(inputs, outputs)


@pytest.mark.graph
def test_inputs_may_be_a_dict():
    x, y = data(16)
    inputs = {"a": x, "b": -x}
    d = Distiller(named_inputs(1), named_inputs(5), KD())
    logs = d.fit(inputs, y, validation_data=(inputs, y), verbose=0).history
    assert logs["kd"][0] > 0 and "val_loss" in logs
    d.evaluate(inputs, y, verbose=0)
    assert d.predict(inputs, verbose=0).shape == (16, CLASSES)
    d.train_on_batch(inputs, y)


class Own(keras.Model):
    """Built by its first call; its `call` knows nothing of `training`."""

    def __init__(self, rate=0.0):
        super().__init__()
        self.rate = rate
        self.hidden = keras.layers.Dense(
            8, kernel_initializer=keras.initializers.GlorotUniform(1)
        )
        self.drop = keras.layers.Dropout(rate, seed=1)
        self.head = keras.layers.Dense(
            CLASSES, kernel_initializer=keras.initializers.GlorotUniform(2)
        )

    def call(self, inputs):
        return self.head(self.drop(self.hidden(inputs)))


def test_subclassed_models_are_built_from_the_data():
    x, y = data(16)
    small, large = Own(), Own()
    d = Distiller(large, small, KD())
    d.fit(x, y, verbose=0)
    assert small.built and large.built and d.built
    assert d.predict(x, verbose=0).shape == (16, CLASSES)


def test_training_reaches_a_student_whose_call_does_not_name_it():
    x, y = data(16)
    runs = []
    for rate in (0.0, 0.9):
        small = Own(rate)
        d = distiller(KD(), keras.optimizers.SGD(0.1), student=small)
        d.fit(x, y, batch_size=16, verbose=0)
        runs.append(numbers(small)[:4])
    assert not close(*runs)


def test_teacher_without_training_argument_runs_in_inference_mode():
    x, y = data(16)
    runs = []
    for rate in (0.0, 0.9):
        large, small = Own(rate), student()
        distiller(KD(), teacher=large, student=small).fit(
            x, y, batch_size=16, verbose=0
        )
        runs.append(numbers(small))
    assert close(*runs)
