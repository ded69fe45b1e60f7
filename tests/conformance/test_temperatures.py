"""What every temperature promises, by itself and in every loss that takes one."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd.losses import DTKD, KD
from keras_dtkd.temperatures import Constant, Dynamic, Standardized
from tests.conformance.programs import CASE, LABELS, compute_mean
from tests.gradients import value_and_grad
from tests.logit_cases import CASE_NAMES, CASES, assert_close
from tests.registry import LOSSES, TEMPERATURES
from tests.tensors import tensor

pytestmark = pytest.mark.filterwarnings("ignore:`Standardized`")
EACH = pytest.mark.parametrize("name", TEMPERATURES)


def _takes_temperatures(entry):
    arguments = inspect.signature(type(entry.build()).__init__).parameters
    return arguments.keys() & {"temperature", "temperatures"}


# One of each class; the forms of one class use their temperature alike.
IN_LOSSES = {
    type(entry.build()).__name__: (entry.build, _takes_temperatures(entry))
    for entry in reversed(LOSSES.values())
    if _takes_temperatures(entry)
}


def numpy(pair):
    return [np.asarray(ops.convert_to_numpy(t), "float64") for t in pair]


def at_temperature(loss, temperature):
    """A loss of a class at a temperature."""
    build, (argument,) = IN_LOSSES[loss]
    given = temperature if argument == "temperature" else [2.0, temperature]
    return build(**{argument: given})


def combine(pair, shape):
    """One number a sample, in which each of the three shows."""
    student, teacher, weight = (
        t + ops.zeros((*shape, 1)[: len(t.shape)]) for t in pair
    )
    parts = [t[..., 0] if len(t.shape) > len(shape) else t for t in (student, teacher)]
    return parts[0] + 3.0 * parts[1] + 0.5 * weight + ops.zeros(shape)


@EACH
@pytest.mark.parametrize("case", CASE_NAMES)
def test_temperatures_are_positive_float32_and_shaped_as_documented(name, case):
    case = CASES[case]
    logits = [tensor(z, case.dtype) for z in case[:2]]
    student, teacher, weight = TEMPERATURES[name].build()(*logits)
    *rows, _ = case.student.shape
    for value, shape in ((student, (*rows, 1)), (teacher, (*rows, 1)), (weight, rows)):
        assert tuple(value.shape) in ((), tuple(shape))
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
        found = ops.convert_to_numpy(value)
        assert np.isfinite(found).all() and found.min() > 0


@EACH
@pytest.mark.parametrize("size", [1e12, 1e30, 3e38])
def test_logits_that_no_network_computes_give_finite_temperatures(name, size):
    rng = np.random.default_rng(0)
    logits = [tensor(size * rng.uniform(-1, 1, (4, 10))) for _ in range(2)]
    for value in numpy(TEMPERATURES[name].build()(*logits)):
        assert np.isfinite(value).all() and value.min() > 0


@EACH
def test_all_is_float32_under_mixed_precision(name):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        temperature = TEMPERATURES[name].build()
        pair = temperature(*(tensor(z, "float16") for z in CASE[:2]))
        dtypes = {keras.backend.standardize_dtype(t.dtype) for t in pair}
        assert dtypes == {"float32"}
        floats = [v for v in temperature.variables if "seed" not in v.path]
        assert {v.dtype for v in floats} <= {"float32"}
    finally:
        keras.config.set_dtype_policy(policy)


@EACH
@pytest.mark.parametrize("side", [0, 1])
def test_its_gradient_is_that_of_a_constant_unless_stated(name, side):
    temperature, sides = TEMPERATURES[name].build(), list(CASE[:2])
    temperature(*map(tensor, sides))

    def function(z):
        logits = [tensor(other) for other in sides]
        logits[side] = z
        with keras.StatelessScope():
            return combine(temperature(*logits), (8,))

    _, gradient = value_and_grad(function, sides[side])
    if TEMPERATURES[name].has_gradient:
        assert np.abs(gradient).max() > 1e-3
    else:
        assert (gradient == 0).all()


@pytest.mark.invariant(number=2)
@EACH
def test_a_shift_of_a_samples_logits_changes_nothing(name):
    temperature, shift = TEMPERATURES[name].build(), 2.0 * np.arange(8)[:, None]
    before = numpy(temperature(*map(tensor, CASE[:2])))
    shifted = CASE.student + shift, CASE.teacher + 28.0 - 2 * shift
    after = numpy(temperature(*map(tensor, shifted)))
    if TEMPERATURES[name].shift_invariant:
        for one, other in zip(after, before, strict=True):
            assert_close(one, other, 2e-5, other)
    else:
        assert np.abs(after[0] - before[0]).max() > 0.1


@pytest.mark.invariant(number=3)
@EACH
def test_samples_of_weight_zero_change_no_other_sample(name):
    student, teacher = (z.copy() for z in CASE[:2])
    # Both extremes of a batch.
    student[6], student[7] = teacher[6], -teacher[7]
    temperature = TEMPERATURES[name].build()
    weights = np.array([1, 1, 2, 1, 1, 0.5, 0, 0])
    given = temperature(tensor(student), tensor(teacher), tensor(weights))
    few = temperature(tensor(student[:6]), tensor(teacher[:6]), tensor(weights[:6]))
    for one, other in zip(numpy(given), numpy(few), strict=True):
        assert np.isfinite(one).all()
        assert_close(one[:6] if one.ndim else one, other, 1e-5, other)
    nothing = temperature(tensor(student), tensor(teacher), tensor(np.zeros(8)))
    assert all(np.isfinite(t).all() and (t > 0).all() for t in numpy(nothing))


@EACH
def test_what_it_learns_has_a_gradient_and_a_list_without_weight_decay(name):
    temperature = TEMPERATURES[name].build()
    temperature(*map(tensor, CASE[:2]))
    assert bool(temperature.trainable_variables) == TEMPERATURES[name].learns
    excluded = {id(v) for v in temperature.variables_without_weight_decay()}
    assert excluded == {id(v) for v in temperature.trainable_variables}


@EACH
@pytest.mark.parametrize("loss", IN_LOSSES)
def test_it_works_in_every_loss_that_takes_a_temperature(name, loss):
    temperature = TEMPERATURES[name].build()
    loss = at_temperature(loss, temperature)
    labels, teacher = ops.convert_to_tensor(LABELS), tensor(CASE.teacher)
    value, gradient = value_and_grad(
        lambda student: compute_mean(loss, student, teacher, labels), CASE.student
    )
    assert np.isfinite(value) and value > 0
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    assert loss.get_temperatures()


# Each sample's value depends on its own softened logits alone.
SAMPLEWISE = ["KD", "DKD", "GeneralizedJSD", "TotalVariation"]


@EACH
@pytest.mark.parametrize("loss", SAMPLEWISE)
def test_it_divides_both_models_logits_and_weighs_the_loss(name, loss):
    temperature, labels = TEMPERATURES[name].build(), ops.convert_to_tensor(LABELS)
    logits = [tensor(z) for z in CASE[:2]]
    pair = temperature(*logits)
    soft = [z / t for z, t in zip(logits, pair[:2], strict=True)]
    plain = at_temperature(loss, 1.0)(*soft, labels=labels)
    value = at_temperature(loss, temperature)(*logits, labels=labels)
    expected = numpy([pair.weight * plain])[0]
    assert_close(numpy([value])[0], expected, 1e-4, np.maximum(1.0, expected))


@EACH
def test_dtkd_takes_it_for_both_terms(name):
    temperature, logits = TEMPERATURES[name].build(), [tensor(z) for z in CASE[:2]]
    value = DTKD(temperature, alpha=0.0, beta=1.0, min_temperature=None)(*logits)
    expected = numpy([KD(temperature)(*logits)])[0]
    assert_close(numpy([value])[0], expected, 1e-5, expected)


class Recorder(Constant):
    """Records the epochs that it is notified of."""

    def __init__(self):
        super().__init__(4.0)
        self.epochs = {}

    def on_epoch_begin(self, epoch, epochs):
        self.epochs[epoch] = epochs

    def variables_without_weight_decay(self):
        return ["variable"]


@pytest.mark.parametrize("owner", [*IN_LOSSES, Dynamic, Standardized])
def test_epochs_and_weight_decay_reach_an_inner_temperature(owner):
    inner = Recorder()
    built = at_temperature(owner, inner) if owner in IN_LOSSES else owner(inner)
    built.on_epoch_begin(2, 30)
    assert inner.epochs == {2: 30}
    assert built.variables_without_weight_decay() == ["variable"]
