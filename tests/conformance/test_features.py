"""What every loss on features promises, and its formula."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller, Step
from keras_dtkd.core.masking import attach_mask
from keras_dtkd.datasets import with_columns
from keras_dtkd.views import Stored
from tests import oracles_detection, oracles_features
from tests.gradients import value_and_grad
from tests.logit_cases import assert_close
from tests.registry import FEATURE_LOSSES
from tests.selection import JIT_COMPILE
from tests.tensors import numpy, tensor
from tests.tiny_models import everything, same

EACH = pytest.mark.parametrize("name", FEATURE_LOSSES)
WEIGHTS = np.array([2.0, 1.0, 0.0, 1.0])
# Rows that the weights count.
ROWS = [0, 0, 1, 3]


def draw(name, seed=0, scale=1.0):
    """Features of four samples, `(student, teacher)`, float64."""
    rng = np.random.default_rng(seed)
    shape = (4, *FEATURE_LOSSES[name].shape)
    pair = rng.normal(scale=scale, size=(2, *shape))
    return pair.astype("float32").astype("float64")


def make_function(name, teacher, weights=None, mask=None, **kwargs):
    """From the student's feature to the mean over the batch."""
    loss = FEATURE_LOSSES[name].build(**kwargs)
    logits = ops.zeros((len(teacher), 3))
    teacher = tensor(teacher)
    weights = None if weights is None else tensor(weights)
    x = None if mask is None else {"padding_mask": tensor(mask, "int32")}
    labels = FEATURE_LOSSES[name].labels
    if labels is not None:
        x = ops.zeros((len(teacher), 8, 8, 3))
        labels = {n: tensor(np.stack([a] * len(teacher))) for n, a in labels.items()}

    def make_step(student):
        return Step(
            x=x,
            y=labels,
            sample_weight=weights,
            student_logits=logits,
            student_features=dict.fromkeys(loss.student_layers, student),
            teacher_features=dict.fromkeys(loss.teacher_layers, teacher),
            # Random numbers have no place in a function.
            training=False,
        )

    loss.build_from_step(make_step(teacher))

    def mean(student):
        values = loss.compute_with_temperatures(make_step(student)).values
        assert tuple(values.shape) == (len(teacher),)
        assert keras.backend.standardize_dtype(values.dtype) == "float32"
        return loss.reduce(values, logits, weights)

    return mean


def reference(name, student, teacher, weights=None):
    """The mean and its gradient by central differences, float64."""
    weights = np.ones(len(student)) if weights is None else weights
    entry = FEATURE_LOSSES[name].oracle
    oracle = getattr(oracles_features, entry, None) or getattr(oracles_detection, entry)

    def mean(student):
        return (weights * oracle(student, teacher, weights)).mean()

    gradient, step = np.zeros_like(student), 1e-5
    for index in np.ndindex(student.shape):
        moved = [student.copy(), student.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        gradient[index] = (mean(moved[0]) - mean(moved[1])) / (2 * step)
    return mean(student), gradient


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["even", "weighted"])
@EACH
def test_equals_the_formula(name, weights):
    student, teacher = draw(name)
    found = value_and_grad(make_function(name, teacher, weights), student)
    expected = reference(name, student, teacher, weights)
    assert_close(found[0], expected[0], 1e-5)
    assert_close(found[1], expected[1], 2e-5, np.abs(expected[1]).max())


@EACH
def test_compiled_equals_eager(name):
    student, teacher = draw(name)
    mean = make_function(name, teacher)
    found = [value_and_grad(mean, student, compiled=c) for c in (True, False)]
    for one, other in zip(*found, strict=True):
        assert_close(one, other, 1e-5, np.abs(other).max())


@pytest.mark.invariant(number=2)
@pytest.mark.parametrize(
    "name", [n for n in FEATURE_LOSSES if not FEATURE_LOSSES[n].is_contrastive]
)
def test_loss_and_gradient_of_equal_models_are_zero(name):
    _, teacher = draw(name)
    value, gradient = value_and_grad(make_function(name, teacher), teacher)
    assert abs(value) < 1e-6
    assert np.abs(gradient).max() < 1e-5


@pytest.mark.invariant(number=3)
@EACH
def test_a_sample_of_weight_two_is_that_sample_twice_and_of_zero_none(name):
    student, teacher = draw(name)
    value, _ = value_and_grad(make_function(name, teacher, WEIGHTS), student)
    expected, _ = value_and_grad(make_function(name, teacher[ROWS]), student[ROWS])
    assert_close(value, expected, 2e-5)
    nothing = value_and_grad(make_function(name, teacher, 0 * WEIGHTS), student)
    assert not any(np.any(part) for part in nothing)


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@EACH
def test_all_is_finite_at_extremes(name, dtype):
    for scale, equal in ((1e4, False), (0.0, False), (1.0, True)):
        student, teacher = draw(name, scale=scale)
        if equal:
            # All samples alike.
            student[:], teacher[:] = student[:1], teacher[:1]
        found = value_and_grad(make_function(name, teacher), student, dtype=dtype)
        assert all(np.isfinite(part).all() for part in found), (scale, equal)


@pytest.mark.invariant(number=3)
@pytest.mark.parametrize(
    "name", [n for n in FEATURE_LOSSES if FEATURE_LOSSES[n].is_sequence]
)
def test_padding_counts_nowhere(name):
    student, teacher = draw(name)
    mask = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 0]])
    axes = (1, 2) if FEATURE_LOSSES[name].shape[-2:] == (3, 3) else (1,)
    for axis in axes:
        shape = [4] + [1] * (student.ndim - 1)
        shape[-2 if axis == 1 else -1] = 3
        padding = np.broadcast_to(mask.reshape(shape), student.shape)
        found = [
            value_and_grad(make_function(name, teacher, mask=mask), each)
            for each in (student, np.where(padding == 1, student, 77.0))
        ]
        assert_close(found[0][0], found[1][0], 1e-6)
        assert not (found[1][1] * (1 - padding)).any()
        assert found[1][1].any()


def test_positions_of_sequences_get_the_weights_of_their_tokens():
    """Where the outputs are sequences too, without any `padding_mask`."""
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 2, 3, 5))
    mask = np.array([[True, True, False], [True, False, False]])
    loss = FEATURE_LOSSES["hidden_states"].build()
    logits = attach_mask(ops.zeros((2, 3, 4)), tensor(mask, "bool"))
    step = Step(
        student_features={"f": tensor(student)},
        teacher_features={"f": tensor(teacher)},
        student_logits=logits,
    )
    loss.build_from_step(step)
    value = loss.reduce(loss.compute(step), logits)
    expected = ((student - teacher) ** 2).mean(-1)[mask].mean()
    assert_close(numpy(value), expected, 1e-5)


def model(width, seed):
    """Maps, a sequence with attention, and a vector, for features of every kind."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4, 4, 2))
    maps = keras.layers.Conv2D(width, 3, padding="same", name="map")(inputs)
    states = keras.layers.Reshape((16, width), name="states")(maps)
    attention = keras.layers.MultiHeadAttention(2, 4, name="attention")
    vector = keras.layers.GlobalAveragePooling1D(name="vector")(
        attention(states, states)
    )
    return keras.Model(inputs, keras.layers.Dense(3)(vector))


def find_feature_for(entry):
    if entry.build().student_layers[0].endswith(":weights"):
        return "attention:weights"
    if entry.is_sequence:
        return "states"
    return "map" if len(entry.shape) == 3 else "vector"


@pytest.mark.invariant(number=3)
@pytest.mark.invariant(number=8)
@pytest.mark.invariant(number=9)
def test_all_train_in_one_step_and_continue_bit_for_bit_after_loading(tmp_path):
    x = np.random.default_rng(0).normal(size=(8, 4, 4, 2)).astype("float32")
    losses = {
        name: entry.build(features=[find_feature_for(entry)], name=name)
        for name, entry in FEATURE_LOSSES.items()
        if entry.labels is None
    }
    views = [Stored("adversarial")]
    images = x
    x = with_columns(images, adversarial=images + 0.1)
    large = model(6, 0)
    before = everything(large)
    distiller = Distiller(large, model(4, 1), losses, views=views)
    sgd = keras.optimizers.SGD(0.001)
    distiller.compile(sgd, None, jit_compile=JIT_COMPILE)

    def fit(model, epoch, weight=1.0):
        options = {"initial_epoch": epoch, "epochs": epoch + 1, "verbose": 0}
        options |= {"batch_size": 8, "shuffle": False}
        weights = np.full(8, weight, "float32")
        return model.fit(x, sample_weight=weights, **options).history

    fit(distiller, 0, weight=0.0)
    assert same(distiller.student, model(4, 1))
    logs = fit(distiller, 1)
    for name in losses:
        assert np.isfinite(logs[name]).all() and logs[name][0] > 0, name
    # Some widths differ: projectors.
    assert any(loss.trainable_variables for loss in losses.values())
    distiller.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    loaded.teacher = large
    for each in (distiller, loaded):
        fit(each, 2)
    for one, other in zip(distiller.variables, loaded.variables, strict=True):
        assert np.array_equal(numpy(one.value), numpy(other.value)), one.path
    assert everything(large) == before
    assert not same(distiller.student, model(4, 1))
