"""Outputs of any kind become logits; masks and weights become sample weights."""

import numpy as np
import pytest
from keras import ops

from keras_dtkd.metrics.inputs import row_weights, to_logits
from tests import oracles
from tests.logit_cases import draw

Z = draw((8, 4)).student


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def test_logits_become_float32():
    result = to_logits(ops.convert_to_tensor(Z, "float16"))
    assert numpy(result).dtype == "float32"
    assert np.allclose(numpy(result), Z, atol=1e-2)


def test_probabilities_become_logits_up_to_a_constant():
    result = numpy(to_logits(oracles.softmax(Z), from_logits=False))
    assert np.allclose(result, oracles.log_softmax(Z), atol=1e-5)


@pytest.mark.parametrize("from_logits", [True, False])
def test_a_single_output_becomes_two_classes(from_logits):
    z = Z[:, :1]
    given = z if from_logits else 1 / (1 + np.exp(-z))
    result = numpy(to_logits(given, from_logits))
    assert result.shape == (8, 2)
    assert np.allclose(result[:, 1] - result[:, 0], z[:, 0], atol=1e-5)


def test_all_weights_are_one_by_default():
    assert numpy(row_weights(Z)).tolist() == [1.0] * 8
    assert numpy(row_weights(Z.tolist())).tolist() == [1.0] * 8


@pytest.mark.invariant(number=3)
def test_sample_weights_apply_to_all_steps():
    sequences = Z.reshape(2, 4, 4)
    expected = [[2.0] * 4, [0.0] * 4]
    for weights in ([2, 0], [[2], [0]], expected):
        result = numpy(row_weights(sequences, np.array(weights)))
        assert (result + np.zeros((2, 4))).tolist() == expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_probabilities_are_inferred_from_values(dtype):
    def given(values):
        return ops.convert_to_tensor(values, dtype)

    p = oracles.softmax(Z)
    result = numpy(to_logits(given(p)))
    assert np.allclose(result, numpy(to_logits(given(p), False)))
    # Neither rows that do not sum to 1 nor negative values are probabilities.
    for z in (Z, p * [[1.0]] * 7 + [[0.5]], p - [[0.1, 0, 0, 0]]):
        assert np.allclose(numpy(to_logits(given(z))), numpy(to_logits(given(z), True)))
    # A single output is assumed to be a logit.
    single = given(p[:, :1])
    assert np.allclose(numpy(to_logits(single)), numpy(to_logits(single, True)))
