"""Logits of any output kind give its probabilities again."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd.core import logits
from keras_dtkd.losses import KD
from tests import oracles
from tests.gradients import value_and_grad
from tests.logit_cases import assert_close, draw

CASE = draw((8, 100))


def tensor(z):
    return ops.convert_to_tensor(z, "float32")


def numpy(z):
    return np.asarray(ops.convert_to_numpy(z), "float64")


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def recovered(outputs, kind):
    return numpy(logits.to_logits(tensor(outputs), kind))


def test_logits_are_logits():
    z = CASE.student
    assert np.array_equal(recovered(z, "logits"), z)


def test_an_excluded_class_gets_a_finite_logit():
    z = np.array([[1.0, -np.inf, 2.0]])
    assert recovered(z, "logits").tolist() == [[1.0, -1e9, 2.0]]


@pytest.mark.parametrize("shape", [(8, 100), (2, 3, 5)])
def test_a_softmax_is_undone_up_to_the_constant_that_it_forgets(shape):
    z = draw(shape).student
    p = oracles.softmax(z)
    again = recovered(p, "softmax")
    assert_close(oracles.softmax(again), p, 1e-6)
    assert_close(oracles.centered(again), oracles.centered(z), 1e-5)


@pytest.mark.parametrize(
    "shape, pairs", [((8, 1), (8, 2)), ((8, 3), (8, 3, 2)), ((2, 3, 1), (2, 3, 2))]
)
@pytest.mark.parametrize("kind", ["sigmoid", "binary logits"])
def test_a_binary_output_becomes_a_pair_of_logits(kind, shape, pairs):
    z = draw(shape).student
    again = recovered(sigmoid(z) if kind == "sigmoid" else z, kind)
    assert again.shape == pairs
    p = oracles.softmax(again).reshape(*shape, 2)
    assert_close(p[..., 0], 1 - sigmoid(z), 1e-6)
    assert_close(p[..., 1], sigmoid(z), 1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("kind", ["logits", "softmax", "sigmoid", "binary logits"])
def test_logits_are_float32_for_outputs_of_any_dtype(kind, dtype):
    outputs = ops.cast(tensor(np.full((2, 4), 0.25)), dtype)
    z = logits.to_logits(outputs, kind)
    assert keras.backend.standardize_dtype(z.dtype) == "float32"


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_saturated_and_underflowed_probabilities_have_finite_logits_and_gradients(kind):
    p = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 1e-45], [2e-38, 1.0 - 2.0**-24, 1e-30]])
    # As large as a scaled loss makes it.
    value, gradient = value_and_grad(lambda x: 2e6 * logits.to_logits(x, kind), p)
    assert np.isfinite(value).all() and np.isfinite(gradient).all()


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("scale", [1.0, 10.0, 1e3])
@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "binary logits"])
def test_a_loss_through_a_saturated_activation_has_a_finite_gradient(kind, scale):
    activation = {
        "softmax": ops.softmax,
        "sigmoid": ops.sigmoid,
        "binary logits": lambda z: z,
    }[kind]

    def loss(z):
        teacher = logits.to_logits(activation(tensor(scale * CASE.teacher)), kind)
        return KD()(logits.to_logits(activation(z), kind), teacher)

    value, gradient = value_and_grad(loss, scale * CASE.student)
    assert np.isfinite(value).all() and np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_a_loss_through_an_activation_in_half_precision_has_a_finite_gradient(kind):
    """The gradient of a mean, with a logit's slope 1/p on its way through float16."""
    z = np.random.default_rng(0).normal(scale=5.0, size=(32, 10))
    teacher = ops.convert_to_tensor(z[::-1].copy(), "float32")
    activation = getattr(ops, kind)

    def loss(student):
        student_logits = logits.to_logits(activation(student), kind)
        teacher_logits = logits.to_logits(activation(teacher), kind)
        return ops.mean(KD()(student_logits, teacher_logits), keepdims=True)

    value, slope = value_and_grad(loss, z, dtype="float16")
    assert np.isfinite(value).all() and np.isfinite(slope).all()
    assert np.abs(slope).max() > 0


def test_a_loss_through_a_softmax_has_the_gradient_of_the_logits():
    teacher = tensor(CASE.teacher)

    def through(z):
        return KD()(logits.to_logits(ops.softmax(z), "softmax"), teacher)

    _, gradient = value_and_grad(through, CASE.student)
    expected = oracles.gradient(lambda z: oracles.kd(z, CASE.teacher), CASE.student)
    assert_close(gradient, expected)


def test_a_single_tensor_is_selected_by_any_key():
    assert logits.select_output("tensor", None) == "tensor"
    assert logits.select_output("tensor", "label") == "tensor"


@pytest.mark.parametrize(
    "outputs, key, names, picked",
    [
        ({"label": 1, "size": 2}, "size", None, 2),
        ({"label": 1}, None, None, 1),
        ([1, 2], 1, None, 2),
        ((1, 2), 0, None, 1),
        ([1], None, None, 1),
        ([1, 2], "size", ["label", "size"], 2),
        ([1, 2], 1, ["label", "size"], 2),
        ([1, 2], -2, None, 1),
        ({0: 1, 1: 2}, 1, None, 2),
    ],
)
def test_an_output_is_picked_by_name_or_place(outputs, key, names, picked):
    assert logits.select_output(outputs, key, names) == picked


@pytest.mark.parametrize(
    "outputs, key, names, known",
    [
        ({"label": 1, "size": 2}, None, None, ["label", "size"]),
        ({"label": 1, "size": 2}, "colour", None, ["label", "size"]),
        ({"label": 1, "size": 2}, 0, None, ["label", "size"]),
        ([1, 2], None, None, [0, 1]),
        ([1, 2], 2, None, [0, 1]),
        ([1, 2], -3, None, [0, 1]),
        ([1, 2], "label", None, [0, 1]),
        ([1, 2], None, ["label", "size"], ["label", "size"]),
        ([1, 2], "colour", ["label", "size"], ["label", "size"]),
        # Names that do not fit the outputs are none.
        ([1, 2], "label", ["label"], [0, 1]),
    ],
)
def test_a_missing_or_unknown_output_is_refused_with_the_list(
    outputs, key, names, known
):
    with pytest.raises(KeyError) as error:
        logits.select_output(outputs, key, names)
    assert error.value.args == (known,)


def model(*layers):
    return keras.Sequential([keras.Input((4,)), *layers])


def nested(last):
    return model(keras.layers.Dense(5), keras.Sequential([keras.layers.Dense(3), last]))


@pytest.mark.parametrize(
    "build, kind",
    [
        (lambda: model(keras.layers.Dense(3)), "logits"),
        (lambda: model(keras.layers.Dense(3, activation="softmax")), "softmax"),
        (lambda: model(keras.layers.Dense(3, activation="sigmoid")), "sigmoid"),
        (lambda: model(keras.layers.Dense(3), keras.layers.Softmax()), "softmax"),
        (
            lambda: model(keras.layers.Dense(3), keras.layers.Activation("softmax")),
            "softmax",
        ),
        (
            lambda: model(keras.layers.Dense(3), keras.layers.Activation("sigmoid")),
            "sigmoid",
        ),
        (lambda: nested(keras.layers.Softmax()), "softmax"),
        (lambda: model(keras.layers.Dense(3, activation="relu")), None),
        (lambda: model(keras.layers.Dense(3), keras.layers.Dropout(0.5)), None),
        (lambda: keras.Model(), None),
    ],
)
def test_the_last_layer_determines_the_output_kind(build, kind):
    assert logits.infer_output_kind(build()) == kind


def test_each_output_of_a_model_has_its_own_kind():
    inputs = keras.Input((4,))
    soft = keras.layers.Dense(3, activation="softmax")(inputs)
    plain = keras.layers.Dense(3)(inputs)
    both = keras.Model(inputs, [soft, plain])
    assert logits.infer_output_kind(both, both.outputs[0]) == "softmax"
    assert logits.infer_output_kind(both, both.outputs[1]) == "logits"


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_distributions_look_like_probabilities(dtype):
    p = oracles.softmax(CASE.teacher).astype(dtype)
    assert logits.look_like_probabilities(p)


@pytest.mark.parametrize(
    "outputs",
    [
        CASE.teacher,
        oracles.softmax(CASE.teacher) * 0.9,
        oracles.softmax(CASE.teacher) - 1e-3,
        sigmoid(CASE.teacher),
        np.ones((4, 1)),
        np.zeros((0, 4)),
    ],
)
def test_other_outputs_do_not(outputs):
    assert not logits.look_like_probabilities(outputs)
