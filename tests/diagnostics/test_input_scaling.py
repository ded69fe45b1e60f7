"""Whether the inputs have the scale that the models expect."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_dtkd import diagnose
from keras_dtkd.diagnostics.input_scaling import (
    check_input_ranges,
    compute_input_statistics,
)

X = np.linspace(0, 255, 64 * 4).reshape(64, 2, 2).astype("float32")


def sequential(*first):
    inputs = keras.Input((2, 2))
    return keras.Sequential([inputs, *first, layers.Flatten(), layers.Dense(3)])


def functional(*first):
    inputs = outputs = keras.Input((2, 2))
    for layer in first:
        outputs = layer(outputs)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(outputs)))


def rescaling(scale=1 / 255, offset=0.0):
    return layers.Rescaling(scale, offset)


def statistics_of(teacher, student, x=X):
    return compute_input_statistics({"teacher": [teacher], "student": [student]}, [x])


def range_issues(*args, accurate_models=()):
    issues = check_input_ranges(statistics_of(*args), accurate_models)
    return {issue.code: issue.severity for issue in issues}


def test_scaling_layers_are_followed_at_any_depth():
    nested = keras.Sequential([keras.Input((2, 2)), rescaling()])
    normal = layers.Normalization(axis=None, mean=0.5, variance=0.25)
    statistics = statistics_of(
        functional(nested, normal), sequential(rescaling(2 / 255, -1.0))
    )
    for role in ("teacher", "student"):
        assert np.isclose(statistics[role]["min"], -1)
        assert np.isclose(statistics[role]["max"], 1)
    assert statistics["given"]["max"] == 255


def test_similar_ranges_are_no_issue():
    pair = sequential(rescaling()), sequential(rescaling(2 / 255, -1.0))
    assert range_issues(*pair) == {}


def test_student_without_the_teachers_rescaling_is_a_warning():
    pair = sequential(rescaling()), sequential()
    assert range_issues(*pair) == {"input_ranges": "warning"}
    info = {"input_ranges": "info"}
    assert range_issues(*pair, accurate_models=["student"]) == info
    # A teacher may be made for [0, 255].
    assert range_issues(*reversed(pair)) == info


class Subclassed(keras.Model):
    """Scales its inputs in `call`."""

    def __init__(self, norm=False):
        super().__init__()
        self.norm = layers.LayerNormalization() if norm else None
        self.by_name = {"flat": layers.Flatten(), "last": layers.Dense(3)}

    def call(self, x):
        x = self.norm(x) if self.norm else x / 255.0
        return self.by_name["last"](self.by_name["flat"](x))


@pytest.mark.parametrize(
    "build",
    [
        lambda: sequential(layers.BatchNormalization()),
        lambda: sequential(
            layers.GaussianNoise(0.9), layers.Permute((2, 1)), rescaling()
        ),
        lambda: functional(lambda x: x / 255.0),
        lambda: functional(functional(rescaling())),
        Subclassed,
        lambda: Subclassed(norm=True),
    ],
    ids=["batch norm", "augmented", "operation", "nested", "subclassed", "own norm"],
)
def test_every_way_of_scaling_the_inputs_is_recognized(build):
    student = build()
    student(X[:1])
    before = [dict(vars(layer)) for layer in student.layers]
    assert range_issues(sequential(rescaling()), student) == {}
    assert [dict(vars(layer)) for layer in student.layers] == before


def test_inputs_enlarged_on_purpose_are_no_warning():
    student = sequential(rescaling(255.0))
    assert range_issues(sequential(), student, X / 255) == {"input_ranges": "info"}


def test_inputs_scaled_twice_or_not_enough_are_a_warning():
    pair = sequential(rescaling()), sequential(rescaling())
    warning = {"inputs_scaled": "warning"}
    assert range_issues(*pair, X / 255) == warning
    assert range_issues(*pair, X * 255) == warning
    both = ["teacher", "student"]
    assert range_issues(*pair, X / 255, accurate_models=both) == {}
    scaled = rescaling(2 / 255, -1.0), rescaling(2 / 255, -1.0)
    assert range_issues(*map(sequential, scaled), X / 127.5 - 1) == warning


def test_token_ids_have_no_scale():
    tokens = keras.Sequential([keras.Input((4,)), layers.Embedding(9, 3)])
    other = keras.Sequential.from_config(tokens.get_config())
    statistics = statistics_of(tokens, other, X[:, 0].repeat(2, axis=-1) * 0)
    assert statistics["teacher"] == statistics["given"]
    assert check_input_ranges(statistics, ()) == []


def issues_of(teacher, student, x, y):
    report = diagnose(teacher, student, (x, y), verbose=0)
    return {i.code: i.severity for i in report.issues if i.severity != "info"}


def features(noise=0.0, count=512, classes=2):
    """Standardized features, labels by a linear teacher, and its kernel."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 6)).astype("float32")
    kernel = rng.normal(size=(6, classes)).astype("float32")
    kernel -= kernel.mean(-1, keepdims=True)
    y = (x @ kernel).argmax(-1)
    wrong = rng.random(count) < noise
    return x, np.where(wrong, rng.permutation(y), y), kernel


def linear(kernel):
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(kernel.shape[1], use_bias=False)]
    )
    model.layers[-1].set_weights([kernel])
    return model


def untrained_student(classes=2):
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((6,)), layers.Dense(classes)])


@pytest.mark.parametrize("seed", range(3))
def test_untrained_teacher_on_large_inputs_is_at_chance(seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 16, (512, 6)).astype("float32")
    y = rng.integers(0, 10, 512)
    teacher = linear(rng.normal(size=(6, 10)))
    issues = issues_of(teacher, untrained_student(10), x, y)
    assert issues == {"chance_teacher": "error"}


@pytest.mark.parametrize("size", [1, 10])
@pytest.mark.parametrize("noise", [0.1, 0.4])
def test_overconfident_teacher_is_not_taken_for_a_wrong_scale(noise, size):
    x, y, kernel = features(noise)
    assert issues_of(linear(size * kernel), untrained_student(), x, y) == {}


@pytest.mark.parametrize("factor", [255, 1 / 255])
def test_scale_that_changes_no_prediction_is_recognized_by_the_confidence(factor):
    x, y, kernel = features(classes=4)
    teacher, student = linear(5 * kernel), untrained_student(4)
    assert "inputs_scaled" not in issues_of(teacher, student, x, y)
    issues = issues_of(teacher, student, x * np.float32(factor), y)
    # An overconfident teacher that is always right is no less right.
    expected = {} if factor > 1 else {"inputs_scaled": "error"}
    assert issues == expected


def test_inputs_by_name_are_scaled_together():
    x, y, kernel = features(classes=4)

    def build(kernel):
        inputs = {name: keras.Input((3,), name=name) for name in "ab"}
        rescaled = [layers.Rescaling(1 / 255)(x) for x in inputs.values()]
        last = layers.Dense(4, use_bias=False)
        model = keras.Model(inputs, last(layers.Concatenate()(rescaled)))
        last.set_weights([kernel])
        return model

    def by_name(x):
        return {"a": x[:, :3], "b": x[:, 3:]}

    pair = build(5 * kernel), build(kernel)
    assert issues_of(*pair, by_name(255 * x), y) == {}
    assert issues_of(*pair, by_name(x), y) == {"inputs_scaled": "error"}
