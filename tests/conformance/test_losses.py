"""What every loss promises, and `KD` at every temperature, whatever the formula."""

import numpy as np
import pytest
from keras import ops

from keras_dtkd import Step
from keras_dtkd.losses import DistillationLoss
from tests.conformance.programs import CASE, LABELS, SWEPT_LOSSES, results
from tests.logit_cases import CASES, ROUNDING, Case, assert_close, digits, draw, rounded
from tests.registry import EPSILON, LOSSES

# They count 8 rows, so that these rows one by one have the same shape.
WEIGHTS = np.array([2, 1, 0, 1, 2, 1, 0, 1])
# Of (3, 4) positions, 8 are kept.
MASK = np.array([[1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 0, 1]], bool)
EXTREMES = ["equal logits", "up to 1e4", "no positive maximum"]
MASKED_LOGITS = (-1e9, -np.inf)

pytestmark = pytest.mark.filterwarnings("ignore:`Standardized`")
# All tests of one loss after each other, while its program is kept.
PER_LOSS = {"scope": "module"}
EACH = pytest.mark.parametrize("name", SWEPT_LOSSES, **PER_LOSS)
ON_GRADIENTS = [n for n, entry in LOSSES.items() if entry.build().input_gradient]
ON_LOGITS = pytest.mark.parametrize(
    "name", [n for n in SWEPT_LOSSES if n not in ON_GRADIENTS], **PER_LOSS
)


def assert_same(actual, expected, tolerance=5e-5):
    """Means and gradients agree, relative to their size where above 1."""
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other, tolerance, np.abs(other).max())


def assert_finite(name, case, *args):
    assert all(np.isfinite(result).all() for result in results(name, case, *args))


@pytest.mark.invariant(number=5)
@EACH
def test_compiled_equals_eager(name):
    for case in (CASE, *(CASES[n] for n in EXTREMES)):
        (value, gradient), (expected, slopes) = (
            results(name, case, compiled=compiled) for compiled in (True, False)
        )
        assert_close(value, expected, 2e-5, np.maximum(expected, digits(case).max()))
        # Of each sample by itself: the mean divides by their number.
        sizes = np.abs(8 * slopes).max(-1, keepdims=True)
        sizes = np.maximum(sizes, digits(case))
        assert_close(8 * gradient, 8 * slopes, 2e-5, sizes)


@pytest.mark.invariant(number=2)
@pytest.mark.parametrize(
    "name",
    [n for n, e in SWEPT_LOSSES.items() if e.equal_models is not None],
    **PER_LOSS,
)
def test_loss_and_gradient_of_equal_models_are_zero(name):
    bound = SWEPT_LOSSES[name].equal_models
    # The correlation of constants is 0, by definition.
    extremes = [CASES[n].teacher for n in EXTREMES] if bound < EPSILON else []
    for teacher in (CASE.teacher, *extremes):
        value, gradient = results(name, Case(teacher, teacher))
        assert abs(value) < bound
        # Of one sample: the mean divides by their number.
        assert np.abs(8 * gradient).max() < min(bound, 2e-4)


@pytest.mark.invariant(number=2)
@ON_LOGITS
def test_a_shift_of_a_samples_logits_changes_nothing(name):
    shift = 2.0 * np.arange(8)[:, None]
    after = results(name, Case(CASE.student + shift, CASE.teacher + 28.0 - 2 * shift))
    before = results(name)
    if SWEPT_LOSSES[name].shift_invariant:
        assert_same(after, before)
    else:
        assert abs(after[0] / before[0] - 1) > 0.05


@pytest.mark.invariant(number=3)
@EACH
def test_weights_of_zero_give_no_loss_and_no_gradient(name):
    value, gradient = results(name, weights=np.zeros(8))
    assert value == 0 and (gradient == 0).all()


@pytest.mark.invariant(number=3)
@EACH
def test_a_sample_of_weight_two_equals_that_sample_twice(name):
    rows = np.repeat(np.arange(8), WEIGHTS)
    value, gradient = results(name, Case(*(z[rows] for z in CASE[:2])), LABELS[rows])
    summed = np.zeros_like(gradient)
    np.add.at(summed, rows, gradient)
    weighted = results(name, weights=WEIGHTS)
    assert_same(weighted, (value, summed))
    # A column, as a data set may give them.
    assert_same(results(name, weights=WEIGHTS[:, None], compiled=False), weighted)
    assert (weighted[1][WEIGHTS == 0] == 0).all()


@pytest.mark.invariant(number=3)
@ON_LOGITS
def test_masked_positions_count_nowhere(name):
    labels = np.zeros((3, 4))
    student, teacher = np.full((2, 3, 4, 100), 1e3)
    student[..., 0] = -1e3
    student[MASK], teacher[MASK], labels[MASK] = *CASE[:2], LABELS
    value, gradient = results(name, Case(student, teacher), labels, mask=MASK)
    assert_same((value, gradient[MASK]), results(name))
    assert (gradient[~MASK] == 0).all()


@pytest.mark.invariant(number=6)
@EACH
def test_all_is_finite_at_extremes(name):
    far = Case(*(1e4 * np.sign(z) for z in CASE[:2]))
    for case in (*(CASES[n] for n in EXTREMES), far, Case(far.student, -far.student)):
        assert_finite(name, case)


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize(
    "name", [n for n, e in SWEPT_LOSSES.items() if not e.saturates], **PER_LOSS
)
def test_models_that_are_far_apart_have_a_gradient(name):
    """Which a logarithm of probabilities, cut off somewhere, has not."""
    _, gradient = results(name, Case(100 * CASE.student, 100 * CASE.teacher))
    assert (np.abs(8 * gradient).max(-1) > 1e-5).all()


@pytest.mark.invariant(number=6)
@EACH
@pytest.mark.single_backend
@pytest.mark.parametrize("shape", [(1, 100), (8, 2)])
def test_all_is_finite_for_one_sample_and_for_two_classes(name, shape):
    for scale in (4.0, 1e4):
        assert_finite(name, draw(shape, scale, scale), LABELS[: shape[0]] % shape[1])


@pytest.mark.invariant(number=6)
@ON_LOGITS
def test_all_is_finite_for_classes_that_one_model_masks(name):
    for mask in MASKED_LOGITS:
        student, teacher = (np.where(np.arange(100) < 96, z, mask) for z in CASE[:2])
        for case in (Case(student, CASE.teacher), Case(CASE.student, teacher)):
            assert_finite(name, case, LABELS // 2)


@ON_LOGITS
@pytest.mark.parametrize("mask", MASKED_LOGITS)
def test_masked_classes_count_nowhere(name, mask):
    wide = Case(*(np.insert(z, [0, 0], mask, axis=-1) for z in CASE[:2]))
    value, gradient = results(name, wide, LABELS + 2)
    assert_same((value, gradient[:, 2:]), results(name))
    assert (gradient[:, :2] == 0).all()


@pytest.mark.invariant(number=6)
@ON_LOGITS
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_logits_give_float32_losses(name, dtype):
    case = Case(*(rounded(z, dtype) for z in CASE[:2]))
    value, gradient = results(name, case, dtype=dtype)
    expected, slope = results(name, case)
    assert_same((value,), (expected,), 1e-5)
    # The mean divides by the number of samples.
    rounding = 1e-5 + ROUNDING[dtype]
    assert_close(8 * gradient, 8 * slope, rounding, np.abs(8 * slope).max())


@pytest.mark.parametrize(
    "name", [n for n, e in SWEPT_LOSSES.items() if not e.stops_gradient], **PER_LOSS
)
def test_gradient_equals_central_differences(name):
    _, gradient = results(name)
    size = np.linalg.norm(gradient)
    noise = np.random.default_rng(0).normal(size=gradient.shape)
    direction = gradient / size + noise / np.linalg.norm(noise)
    values = [
        results(name, Case(CASE.student + step * direction, CASE.teacher))[0]
        for step in (0.1, -0.1)
    ]
    slope = (np.float64(values[0]) - values[1]) / 0.2
    assert abs(slope - (gradient * direction).sum()) < 0.03 * size


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "name",
    [n for n in LOSSES if LOSSES[n].build().needs_labels and n not in ON_GRADIENTS],
)
def test_missing_labels_are_one_clear_error(name):
    loss = LOSSES[name].build()
    logits = [ops.convert_to_tensor(z, "float32") for z in CASE[:2]]
    with pytest.raises(ValueError, match=f"`{loss.name}` needs labels"):
        loss.compute(Step(student_logits=logits[0], teacher_logits=logits[1]))


@EACH
@pytest.mark.single_backend
def test_the_distiller_of_keras_gets_the_weighted_mean_or_an_error(name):
    loss = SWEPT_LOSSES[name].build(weight=0.5, warmup_epochs=4)
    loss.on_epoch_begin(1, 10)
    student, teacher = (ops.convert_to_tensor(z, "float32") for z in CASE[:2])
    error = pytest.raises(ValueError, match=f"`{type(loss).__name__}` needs")
    if type(loss).call is DistillationLoss.call:
        with error:
            loss.validate_model_compatibility(None, None)
    elif loss.needs_labels:
        with error:
            loss.compute_loss(teacher, student)
    else:
        loss.validate_model_compatibility(None, None)
        mean = loss.compute_loss(teacher, student)
        expected = 0.5 * 0.25 * results(name)[0]
        assert float(ops.convert_to_numpy(mean)) == pytest.approx(expected, rel=1e-4)
