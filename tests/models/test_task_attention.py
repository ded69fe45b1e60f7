"""Attention of children to parents equals the published formula, and stays finite."""

import keras
import numpy as np
import pytest

from keras_dtkd.models import TaskAttention
from tests.models.mixtures import attention_of, entropy_of
from tests.tensors import numpy, tensor

RNG = np.random.default_rng(0)
OUTPUTS = RNG.normal(size=(3, 5, 4)).astype("float32")
THETA = RNG.uniform(size=(2, 3)).astype("float32")


def layer(theta=THETA, **options):
    attention = TaskAttention(len(theta), **options)
    attention.build([(5, 4)] * theta.shape[1])
    attention.theta.assign(theta)
    return attention


@pytest.mark.parametrize("temperature", [10.0, 1.0, 0.1])
def test_rows_are_the_published_distribution(temperature):
    d = numpy(layer(temperature=temperature).attention())
    np.testing.assert_allclose(d, attention_of(THETA, temperature), rtol=2e-5)
    np.testing.assert_allclose(d.sum(-1), 1.0, rtol=1e-6)


def test_mixes_are_sums_of_outputs_by_attention():
    mixes = numpy(layer()([tensor(each) for each in OUTPUTS]))
    expected = np.einsum("cp,pbf->cbf", attention_of(THETA, 1.0), OUTPUTS)
    np.testing.assert_allclose(mixes, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("normalized", [False, True])
def test_entropy_equals_the_formula(normalized):
    value = numpy(layer(temperature=0.5).entropy(normalized))
    expected = entropy_of(attention_of(THETA, 0.5))
    expected /= np.log(3) if normalized else 1.0
    assert value == pytest.approx(expected, rel=1e-5)


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("temperature", [1.0, 1e-30])
def test_saturated_attention_and_its_entropy_are_finite(temperature):
    attention = layer(np.float32([[1e4, -1e4, 0.0], [-1e4, 9e3, 1e4]]))
    attention.attention_temperature.assign(temperature)
    assert numpy(attention.attention()).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert numpy(attention.entropy()) == 0.0
    attention.theta.assign(np.full((2, 3), 1e4))
    assert numpy(attention.entropy(normalized=True)) == pytest.approx(1.0)


def test_a_single_parent_has_no_entropy():
    attention = layer(np.ones((4, 1), "float32"))
    assert numpy(attention.attention()).tolist() == [[1.0]] * 4
    assert numpy(attention.entropy(normalized=True)) == 0.0


def test_hard_attention_is_one_hot_and_not_trained():
    attention = layer(np.float32([[0.1, 0.3, 0.2], [0.9, 0.1, 0.1]]), hard=True)
    assert numpy(attention.attention()).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert not attention.trainable_variables
    assert numpy(attention.entropy()) == 0.0


def test_the_penalty_is_the_mean_entropy_of_rows():
    attention = layer(entropy_weight=0.25)
    for _ in range(2):
        attention([tensor(each) for each in OUTPUTS])
    (penalty,) = attention.losses
    expected = 0.25 * entropy_of(attention_of(THETA, 1.0))
    assert numpy(penalty) == pytest.approx(expected, rel=1e-5)
    free = layer()
    free([tensor(each) for each in OUTPUTS])
    assert not free.losses


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16"])
def test_attention_is_float32_in_half_precision(policy):
    attention = layer(dtype=policy)
    dtype = keras.dtype_policies.get(policy).compute_dtype
    mixes = attention([tensor(each, dtype) for each in OUTPUTS])
    assert keras.backend.standardize_dtype(mixes.dtype) == dtype
    d = attention.attention()
    assert keras.backend.standardize_dtype(d.dtype) == "float32"
    np.testing.assert_allclose(numpy(d), attention_of(THETA, 1.0), rtol=2e-5)


@pytest.mark.single_backend
def test_weight_decay_can_leave_theta_out():
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["theta"])
    attention, dense = layer(), keras.layers.Dense(2)
    dense.build((None, 3))
    variables = attention.theta, dense.kernel
    before = [numpy(v) for v in variables]
    optimizer.build(variables)
    optimizer.apply_gradients([(tensor(np.zeros(v.shape)), v) for v in variables])
    np.testing.assert_array_equal(numpy(attention.theta), before[0])
    assert np.abs(numpy(dense.kernel)).sum() < np.abs(before[1]).sum()


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "argument, value",
    [
        ("children", 0),
        ("temperature", 0.0),
        ("scale", -0.5),
        ("entropy_weight", -1.0),
        ("entropy_weight", float("nan")),
    ],
)
def test_wrong_arguments_are_refused(argument, value):
    with pytest.raises(ValueError, match=f"`TaskAttention`: `{argument}`.*{value}"):
        TaskAttention(**{"children": 2, argument: value})


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_outputs_of_several_shapes_are_refused():
    with pytest.raises(ValueError, match=r"one shape.*\(5, 4\), \(5, 3\)"):
        TaskAttention(2).build([(5, 4), (5, 3)])
