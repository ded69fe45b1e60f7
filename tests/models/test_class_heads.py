"""Each head is the multilayer perceptron of its class."""

import keras
import numpy as np
import pytest

from keras_dtkd.models import ClassHeads
from tests.tensors import numpy, tensor

X = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")


def reference(heads, x):
    """Class by class, float64."""
    kernels = [numpy(k) for k in (*heads.hidden_kernels, heads.kernel)]
    biases = [numpy(b) for b in (*heads.hidden_biases, heads.bias)]
    logits = []
    for c, hidden in enumerate(x.astype("float64")):
        for kernel, bias in zip(kernels[:-1], biases[:-1], strict=True):
            hidden = np.maximum(hidden @ kernel[c] + bias[c], 0)
        logits.append((hidden @ kernels[-1][c] + biases[-1][c])[:, 0])
    return np.stack(logits, axis=-1)


@pytest.mark.parametrize("units", [(), (6,), (6, 7)])
def test_heads_equal_perceptrons_of_their_own(units):
    heads = ClassHeads(units)
    heads.build(X.shape)
    for bias in (*heads.hidden_biases, heads.bias):
        bias.assign(np.random.default_rng(1).normal(size=bias.shape))
    logits = numpy(heads(tensor(X)))
    assert logits.shape == (5, 3)
    np.testing.assert_allclose(logits, reference(heads, X), rtol=1e-4, atol=1e-5)


def test_dropout_acts_in_training_alone():
    heads = ClassHeads((64,), 0.5)
    first, second = (numpy(heads(tensor(X))) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (numpy(heads(tensor(X), training=True)) != first).any()


def test_logits_are_float32_in_mixed_precision():
    heads = ClassHeads((6,), dtype="mixed_bfloat16")
    logits = heads(tensor(X, "bfloat16"))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"


@pytest.mark.single_backend
def test_initial_values_have_the_limit_of_a_single_head():
    heads = ClassHeads((30,))
    heads.build((50, None, 30))
    kernel = numpy(heads.hidden_kernels[0])
    limit = (6 / 60) ** 0.5
    assert 0.99 * limit < np.abs(kernel).max() <= limit
    assert not np.allclose(kernel[0], kernel[1])


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "argument, value", [("units", (8, 0)), ("dropout", 1), ("dropout", -0.1)]
)
def test_wrong_arguments_are_refused(argument, value):
    with pytest.raises(ValueError, match=f"`ClassHeads`: `{argument}`"):
        ClassHeads(**{argument: value})


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_features_of_another_rank_are_refused():
    with pytest.raises(ValueError, match=r"\(classes, batch, features\).*\(5, 4\)"):
        ClassHeads().build((5, 4))
