"""Whatever a model gives, a metric sees logits and how much each row counts."""

import numpy as np
import pytest
from keras import ops

from keras_dtkd.metrics.inputs import row_weights, to_logits
from tests import oracles
from tests.logit_cases import draw

Z = draw((8, 4)).student


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def test_logits_come_back_as_float32():
    found = to_logits(ops.convert_to_tensor(Z, "float16"))
    assert numpy(found).dtype == "float32"
    assert np.allclose(numpy(found), Z, atol=1e-2)


def test_probabilities_become_logits_up_to_a_constant():
    found = numpy(to_logits(oracles.softmax(Z), from_logits=False))
    assert np.allclose(found, oracles.log_softmax(Z), atol=1e-5)


@pytest.mark.parametrize("from_logits", [True, False])
def test_of_a_single_output_come_no_and_yes(from_logits):
    z = Z[:, :1]
    given = z if from_logits else 1 / (1 + np.exp(-z))
    found = numpy(to_logits(given, from_logits))
    assert found.shape == (8, 2)
    assert np.allclose(found[:, 1] - found[:, 0], z[:, 0], atol=1e-5)


def test_each_row_counts_once_without_weights():
    assert numpy(row_weights(Z)).tolist() == [1.0] * 8
    assert numpy(row_weights(Z.tolist())).tolist() == [1.0] * 8


@pytest.mark.invariant(number=3)
def test_weights_of_samples_are_those_of_their_steps():
    sequences = Z.reshape(2, 4, 4)
    expected = [[2.0] * 4, [0.0] * 4]
    for weights in ([2, 0], [[2], [0]], expected):
        found = numpy(row_weights(sequences, np.array(weights)))
        assert (found + np.zeros((2, 4))).tolist() == expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_probabilities_are_known_by_their_values(dtype):
    def given(values):
        return ops.convert_to_tensor(values, dtype)

    p = oracles.softmax(Z)
    found = numpy(to_logits(given(p)))
    assert np.allclose(found, numpy(to_logits(given(p), False)))
    # A row that does not sum to 1, and a number below 0, are no probabilities.
    for z in (Z, p * [[1.0]] * 7 + [[0.5]], p - [[0.1, 0, 0, 0]]):
        assert np.allclose(numpy(to_logits(given(z))), numpy(to_logits(given(z), True)))
    # One output does not tell.
    one = given(p[:, :1])
    assert np.allclose(numpy(to_logits(one)), numpy(to_logits(one, True)))
