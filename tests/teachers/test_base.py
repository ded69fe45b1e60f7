"""A model, a `Teacher` or any object with the same methods may be the teacher."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.losses import KD
from keras_dtkd.teachers import (
    ModelTeacher,
    Teacher,
    model_fingerprint,
    resolve_teacher,
)
from keras_dtkd.teachers.base import ProtocolTeacher
from tests.tiny_models import CLASSES, close, data, student, teacher

X, Y = data(32)


class Rule:
    """An object that is no `Teacher`: it outputs three times the first features."""

    def __init__(self):
        self.factor = keras.Variable(3.0)
        self.variables = [self.factor]

    def outputs(self, x, sample_ids=None):
        return self.factor * keras.ops.convert_to_tensor(x)[:, :CLASSES]

    def fingerprint(self):
        return f"{float(self.factor.value):.1f} times"


def test_an_object_with_the_protocol_trains_as_a_model_does():
    runs = []
    # `teacher()` computes just that.
    for given in (Rule(), teacher()):
        small = student()
        d = Distiller(given, small, KD(), evaluate_distillation=True)
        d.fit(X, Y, shuffle=False, validation_data=(X, Y), verbose=0)
        runs.append(small)
    assert close(*runs, 1e-4)


def test_its_variables_may_change_between_runs_if_it_is_given_again():
    rule = Rule()
    d = Distiller(rule, student(), KD(), task_weight=0.0)
    d.compile(keras.optimizers.SGD(0.0))
    first = d.fit(X, verbose=0).history["kd"][0]
    rule.factor.assign(9.0)
    with pytest.raises(ValueError, match="3.0 time.*now 9.0 time"):
        d.fit(X, verbose=0)
    d.teacher = rule
    assert d.fit(X, verbose=0).history["kd"][0] > 1.5 * first


def test_another_teacher_may_take_over():
    small = student()
    d = Distiller(teacher(), small, KD())
    d.compile(keras.optimizers.SGD(0.0))
    first = d.fit(X, verbose=0).history["kd"][0]
    d.teacher = teacher(scale=9.0)
    other = d.fit(X, verbose=0).history["kd"][0]
    alone = Distiller(teacher(scale=9.0), small, KD())
    alone.compile(keras.optimizers.SGD(0.0))
    assert other == pytest.approx(alone.fit(X, verbose=0).history["kd"][0], rel=1e-5)
    assert other != pytest.approx(first, rel=0.1)


def test_resolve_teacher_takes_models_and_teachers_and_nothing_else():
    model, rule = teacher(), Rule()
    assert (
        isinstance(resolve_teacher(model), ModelTeacher)
        and resolve_teacher(model).model is model
    )
    wrapper = resolve_teacher(rule)
    assert isinstance(wrapper, ProtocolTeacher) and isinstance(wrapper, Teacher)
    assert wrapper.wrapped is rule and resolve_teacher(wrapper) is wrapper
    assert Distiller(rule, student()).teacher is rule
    for wrong in (None, "resnet", Rule, Teacher, 3):
        with pytest.raises(TypeError, match="`teacher` must be a `keras.Model`"):
            resolve_teacher(wrong)


def test_a_fingerprint_is_neither_of_names_nor_of_flags(tmp_path):
    model = teacher()
    first = model_fingerprint(model)
    assert len(first) == 32 and int(first, 16) >= 0
    assert model_fingerprint(teacher()) == first
    model.save(tmp_path / "teacher.keras")
    assert (
        model_fingerprint(keras.models.load_model(tmp_path / "teacher.keras")) == first
    )
    model.trainable = False
    model.compile("adam", "mse")
    model.predict(X, verbose=0)
    assert model_fingerprint(model) == first


def test_any_changed_weight_changes_the_fingerprint():
    model = teacher()
    first = model_fingerprint(model)
    for i, weight in enumerate(model.get_weights()):
        values = [np.array(w) for w in model.get_weights()]
        changed = [v.copy() for v in values]
        changed[i].flat[-1] = np.nextafter(weight.flat[-1], np.float32(9))
        model.set_weights(changed)
        assert model_fingerprint(model) != first, model.weights[i].path
        model.set_weights(values)
    assert model_fingerprint(model) == first


def scaled(scale=0.5, activation="relu", slope=0.1, name="scaled", first=()):
    """The same weights each time, with settings that no weight shows."""
    layers = [
        *first,
        keras.layers.Rescaling(scale),
        keras.layers.Dense(3, activation, kernel_initializer="ones"),
        keras.layers.LeakyReLU(slope),
    ]
    return keras.Sequential([keras.Input((6,)), *layers], name=name)


@pytest.mark.single_backend
def test_settings_that_no_weight_shows_change_the_fingerprint(tmp_path):
    models = [scaled(), scaled(1 / 255), scaled(activation="gelu"), scaled(slope=0.9)]
    models += [
        scaled(first=[layer])
        for layer in (
            keras.layers.Rescaling([0.5] * 6),
            keras.layers.Rescaling(np.full((1, 6), 0.5)),
            keras.layers.Rescaling(np.full((1, 6), 0.4)),
            keras.layers.Normalization(mean=[0.5] * 6, variance=[1.0] * 6),
            keras.layers.Normalization(mean=np.full(6, 0.4), variance=np.ones(6)),
            keras.layers.Normalization(
                mean=keras.ops.full((6,), 0.3), variance=keras.ops.ones((6,))
            ),
            keras.layers.BatchNormalization(epsilon=1e-3),
            keras.layers.BatchNormalization(epsilon=1e-2),
            keras.layers.Softmax(),
            keras.layers.Softmax(axis=0),
        )
    ]
    prints = [model_fingerprint(model) for model in models]
    assert len(set(prints)) == len(models)
    assert model_fingerprint(scaled(name="other")) == prints[0]
    for model, expected in zip(models, prints, strict=True):
        model.compile("adam", "mse")
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert model_fingerprint(loaded) == expected


class Unconfigured(keras.layers.Layer):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)

    def get_config(self):
        return {"mapping": {0: self.function}}


@pytest.mark.single_backend
def test_code_of_ones_own_has_no_part_in_a_fingerprint():
    def build(function):
        layers = [Unconfigured(function), keras.layers.Dense(2, activation=function)]
        model = keras.Sequential([keras.Input((6,)), *layers])
        model.set_weights([np.ones(w.shape) for w in model.weights])
        return model_fingerprint(model)

    assert build(lambda x: x) == build(lambda x: 2 * x)


@keras.saving.register_keras_serializable()
class Preprocessed(keras.Model):
    """A model of one's own whose layer is named as KerasHub's preprocessors are."""

    def __init__(self, scale):
        super().__init__()
        self.preprocessor = keras.Sequential([keras.layers.Rescaling(scale)])
        self.dense = keras.layers.Dense(2, kernel_initializer="ones")

    def call(self, x):
        return self.dense(self.preprocessor(x))


@pytest.mark.single_backend
def test_a_layer_that_the_model_calls_is_no_preprocessor():
    models = [Preprocessed(scale) for scale in (1.0, 0.1)]
    for model in models:
        model(X)
    assert model_fingerprint(models[0]) != model_fingerprint(models[1])


def test_a_preprocessor_has_no_part_in_a_fingerprint(tmp_path):
    hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed.")

    def build(scale):
        keras.utils.set_random_seed(0)
        sizes = {"input_conv_filters": [64], "input_conv_kernel_sizes": [3]}
        stage = {"filters": [64], "blocks": [1], "strides": [1]}
        sizes |= {f"stackwise_num_{name}": value for name, value in stage.items()}
        backbone = hub.models.ResNetBackbone(
            block_type="basic_block", image_shape=(8, 8, 3), **sizes
        )
        converter = hub.layers.ResNetImageConverter(image_size=(8, 8), scale=scale)
        preprocessor = hub.models.ResNetImageClassifierPreprocessor(converter)
        return hub.models.ResNetImageClassifier(
            backbone, num_classes=2, preprocessor=preprocessor
        )

    model = build(1 / 255)
    before = model_fingerprint(model)
    assert model_fingerprint(build(2.0)) == before
    model.predict(np.zeros((1, 8, 8, 3)), verbose=0)
    assert model_fingerprint(model) == before
    model.preprocessor = None
    assert model_fingerprint(model) == before
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert model_fingerprint(loaded) == before


def test_the_shape_and_the_precision_are_part_of_a_fingerprint():
    # The same bytes, all zero.
    def zeros(*sizes, dtype=None):
        layers = [
            keras.layers.Dense(n, "relu", use_bias=False, dtype=dtype) for n in sizes
        ]
        model = keras.Sequential([keras.Input((4,)), *layers])
        model.set_weights([np.zeros(w.shape) for w in model.weights])
        return model_fingerprint(model)

    prints = {zeros(2), zeros(4), zeros(1, 4), zeros(4, dtype="float16")}
    assert len(prints) == 4
