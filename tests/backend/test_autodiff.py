"""Derivatives with respect to inputs, and those of derivatives."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import backend
from keras_dtkd.backend import autodiff
from tests import oracles_networks as networks
from tests.gradients import value_and_grad
from tests.logit_cases import assert_close

ALL = pytest.mark.parametrize("name", networks.NETWORKS)
BOTH = pytest.mark.parametrize("compiled", [False, True])
BATCH_NORM = "batch norm"


def tensor(a):
    return ops.convert_to_tensor(a, "float32")


def array(a):
    return np.asarray(ops.convert_to_numpy(a), "float64")


def weights_of(model):
    return [np.array(w, "float64") for w in model.get_weights()]


def losses_of(model, y):
    """From inputs to `(losses, what the model assigned)`, without assigning it."""
    label = tensor(np.eye(networks.CLASSES)[y])
    variables = model.variables

    def fn(x):
        values = [(v, v.value) for v in variables]
        with keras.StatelessScope(values) as scope:
            z = model(x, training=True)
        found = -ops.sum(label * ops.log_softmax(z), axis=-1)
        return found, [scope.get_current_value(v) for v in variables]

    return fn


def total_of(model, y):
    fn = losses_of(model, y)

    def total(x):
        values, assigned = fn(x)
        return ops.sum(values), (values, assigned)

    return total


def of_weights(model, function, compiled):
    """The gradient of a number with respect to all trainable weights, `(n,)`."""
    trained = model.trainable_variables
    ends = np.cumsum([int(np.prod(v.shape)) for v in trained])
    start = np.concatenate([array(v.value).ravel() for v in trained])

    def at(flat):
        parts = [
            (v, ops.reshape(flat[end - int(np.prod(v.shape)) : end], v.shape))
            for v, end in zip(trained, ends.tolist(), strict=True)
        ]
        with keras.StatelessScope(parts):
            return function()

    return value_and_grad(at, start, compiled)[1]


@ALL
@BOTH
def test_the_input_gradient_equals_the_formula(name, compiled):
    model, (x, y) = networks.build(name), networks.draw_data(name)
    fn = total_of(model, y)

    def both(x):
        (value, (losses, _)), gradient = autodiff.value_and_input_grad(
            fn, x, has_aux=True
        )
        # The helper differentiates: only this leaves the numbers as they are.
        return ops.concatenate(
            [ops.reshape(a, (-1,)) for a in (value, losses, gradient)]
        )

    found, _ = value_and_grad(both, x, compiled)
    expected = networks.losses(name, weights_of(model), x, y)
    gradient = networks.gradient(name, weights_of(model), x, y)
    assert_close(found[0], expected.sum(), 1e-5, expected.sum())
    assert_close(found[1 : 1 + len(y)], expected)
    assert_close(found[1 + len(y) :], gradient.ravel(), 1e-5)


@ALL
def test_it_can_be_differentiated_by_the_weights(name):
    model, (x, y) = networks.build(name), networks.draw_data(name)
    u = np.random.default_rng(1).normal(size=x.shape)
    fn = total_of(model, y)

    def product():
        _, gradient = autodiff.value_and_input_grad(fn, tensor(x), has_aux=True)
        return ops.sum(gradient * tensor(u))

    found = of_weights(model, product, compiled=True)
    assert_mixed_derivative(name, model, x, y, u, found)


def assert_mixed_derivative(name, model, x, y, u, found, tolerance=1e-4):
    """Along random directions of the weights, by central differences in float64."""
    weights, trained = weights_of(model), {id(v) for v in model.trainable_variables}
    assert np.abs(found).max() > 0.1
    rng = np.random.default_rng(2)
    for _ in range(5):
        moves = [
            rng.normal(size=w.shape) * (id(v) in trained)
            for v, w in zip(model.weights, weights, strict=True)
        ]
        flat = np.concatenate(
            [
                m.ravel()
                for v, m in zip(model.weights, moves, strict=True)
                if id(v) in trained
            ]
        )
        sides = [
            networks.along(
                name,
                [w + sign * 1e-5 * m for w, m in zip(weights, moves, strict=True)],
                x,
                y,
                u,
            ).sum()
            for sign in (1, -1)
        ]
        expected = (sides[0] - sides[1]) / 2e-5
        assert_close(found @ flat, expected, tolerance, np.abs(found).sum())


ESTIMATES = pytest.mark.parametrize(
    "estimate, tolerance", [("jvp", 1e-5), ("finite_difference", 2e-3)]
)


@ALL
@ESTIMATES
def test_the_derivative_along_a_direction_equals_the_formula(name, estimate, tolerance):
    model, (x, y) = networks.build(name), networks.draw_data(name)
    v = np.random.default_rng(1).normal(size=x.shape)
    (losses, _), tangent = getattr(autodiff, estimate)(
        losses_of(model, y), tensor(x), tensor(v), has_aux=True
    )
    weights = weights_of(model)
    assert_close(array(losses), networks.losses(name, weights, x, y))
    expected = networks.along(name, weights, x, y, v)
    assert tangent.shape == losses.shape
    assert_close(array(tangent), expected, tolerance, np.abs(expected).max())


@ALL
@ESTIMATES
def test_it_too_can_be_differentiated_by_the_weights(name, estimate, tolerance):
    model, (x, y) = networks.build(name), networks.draw_data(name)
    v = np.random.default_rng(1).normal(size=x.shape)
    fn = losses_of(model, y)

    def change():
        _, tangent = getattr(autodiff, estimate)(fn, tensor(x), tensor(v), has_aux=True)
        return ops.sum(tangent)

    found = of_weights(model, change, compiled=False)
    assert_mixed_derivative(name, model, x, y, v, found, max(tolerance, 1e-4))


def test_what_a_layer_assigns_leaves_the_derivative_with_the_rest():
    model, (x, y) = networks.build(BATCH_NORM), networks.draw_data(BATCH_NORM)
    before = weights_of(model)
    fn = total_of(model, y)
    (_, (_, values)), _ = autodiff.value_and_input_grad(fn, tensor(x), has_aux=True)
    assert all(map(np.array_equal, before, weights_of(model)))
    for variable, value in zip(model.variables, values, strict=True):
        variable.assign(value)
    moved = x @ before[0] + before[1]
    assert_close(weights_of(model)[4], 0.99 * before[4] + 0.01 * moved.mean(0))


X = np.array([[1.0, -2.0], [3.0, 0.5]])


def test_without_more_the_function_gives_its_value_alone():
    value, gradient = autodiff.value_and_input_grad(lambda x: ops.sum(x**2), tensor(X))
    assert_close(array(value), (X**2).sum())
    assert_close(array(gradient), 2 * X)
    for estimate in (autodiff.jvp, autodiff.finite_difference):
        value, tangent = estimate(lambda x: x**2, tensor(X), tensor(np.ones((2, 2))))
        assert_close(array(value), X**2)
        assert_close(array(tangent), 2 * X, 1e-3)


def test_inputs_may_be_nested():
    x = {"a": tensor(X), "b": [tensor(X[0])]}

    def fn(x):
        return ops.sum(x["a"] * x["b"][0])

    _, gradient = autodiff.value_and_input_grad(fn, x)
    assert_close(array(gradient["a"]), np.tile(X[0], (2, 1)))
    assert_close(array(gradient["b"][0]), X.sum(0))
    v = {"a": tensor(0 * X), "b": [tensor([1.0, 0.0])]}
    for estimate in (autodiff.jvp, autodiff.finite_difference):
        assert_close(array(estimate(fn, x, v)[1]), X[:, 0].sum(), 1e-3)


@pytest.mark.parametrize(
    "fn",
    [lambda x: ops.convert_to_tensor(3.0), lambda x: ops.sum(ops.stop_gradient(x))],
)
def test_where_the_function_does_not_depend_on_its_inputs_it_is_zero(fn):
    _, gradient = autodiff.value_and_input_grad(fn, tensor(X))
    assert (array(gradient) == 0).all()
    _, tangent = autodiff.jvp(fn, tensor(X), tensor(X))
    assert array(tangent) == 0


def test_the_step_of_a_finite_difference_may_be_chosen():
    def error(step):
        _, tangent = autodiff.finite_difference(
            ops.exp, tensor(X), tensor(np.ones((2, 2))), step=step
        )
        return np.abs(array(tangent) - np.exp(X)).max()

    assert error(0.2) > 10 * error(0.02)


def test_all_evaluations_of_a_finite_difference_draw_the_same_numbers():
    keras.utils.set_random_seed(0)
    drop, x = keras.layers.Dropout(0.5), tensor(np.ones((40, 5)))
    drop.build(x.shape)

    def fn(x):
        with keras.StatelessScope([(v, v.value) for v in drop.variables]):
            return drop(x, training=True)

    before = backend.get_rng_state()
    fn(x)
    after = backend.get_rng_state()
    backend.set_rng_state(before)
    value, tangent = autodiff.finite_difference(fn, x, x)
    assert 0 < (array(value) == 0).mean() < 1
    # Linear, but for what is dropped.
    assert_close(array(tangent), array(value), 1e-3)
    for name, state in backend.get_rng_state().items():
        assert (state == after[name]).all() and (state != before[name]).any()


def test_where_nothing_is_recorded_they_are_constants():
    with backend.no_grad():
        value, gradient = autodiff.value_and_input_grad(
            lambda x: ops.sum(x**2), tensor(X)
        )
    assert_close(array(gradient), 2 * X)
    if backend.backend_name() == "torch":
        assert not value.requires_grad and not gradient.requires_grad
