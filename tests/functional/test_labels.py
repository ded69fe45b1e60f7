"""Labels in any form become one row of classes each."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd.functional.labels import one_hot, to_class_probs

LABELS = np.array([2, 0, 1, 2])
EXPECTED = np.eye(3)[LABELS]


def convert(labels, shape=(4, 3), dtype=None):
    value = one_hot(ops.convert_to_tensor(labels, dtype), ops.zeros(shape))
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    return ops.convert_to_numpy(value)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float32"])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_integers_of_any_dtype_and_shape(shape, dtype):
    assert np.array_equal(convert(LABELS.reshape(shape), dtype=dtype), EXPECTED)


@pytest.mark.parametrize("dtype", ["int32", "float32", "bool"])
def test_one_hot_labels_stay_as_they_are(dtype):
    assert np.array_equal(convert(EXPECTED, dtype=dtype), EXPECTED)


def test_a_soft_label_is_its_most_probable_class():
    assert np.array_equal(convert(0.9 * EXPECTED + 0.1 / 3, dtype="float32"), EXPECTED)


@pytest.mark.parametrize("labels", [[-1, 0, 3, 255], [[-1], [0], [3], [255]]])
def test_an_integer_that_is_not_a_class_gives_zeros(labels):
    assert convert(labels, dtype="int32").tolist() == [
        [0, 0, 0],
        [1, 0, 0],
        [0, 0, 0],
        [0, 0, 0],
    ]


def test_a_sample_without_a_positive_number_gives_zeros():
    labels = np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert convert(labels, (2, 3), "float32").tolist() == [[0, 0, 0], [0, 1, 0]]


def test_each_position_of_a_sequence_has_its_label():
    labels = np.array([[2, 0], [-1, 1]])
    expected = [[[0, 0, 1], [1, 0, 0]], [[0, 0, 0], [0, 1, 0]]]
    for form in (labels, labels[..., None], np.array(expected)):
        assert convert(form, (2, 2, 3), "int32").tolist() == expected


def test_pairs_of_logits_take_zeros_and_ones():
    labels = np.array([[1.0, 0.0, 1.0]])
    expected = [[[0, 1], [1, 0], [0, 1]]]
    assert convert(labels, (1, 3, 2), "float32").tolist() == expected
    # A single label has lost its axis: `(batch, 2)`.
    assert convert(np.array([[1.0], [0.0]]), (2, 2)).tolist() == [[0, 1], [1, 0]]


def test_other_shapes_raise():
    for shape in ((4, 2), (4, 3, 3), ()):
        with pytest.raises(ValueError, match="do not fit"):
            convert(np.zeros(shape, "int32"))


def target(labels, shape, dtype="float32"):
    probs = to_class_probs(ops.convert_to_tensor(labels, dtype), ops.zeros(shape))
    assert keras.backend.standardize_dtype(probs.dtype) == "float32"
    return ops.convert_to_numpy(probs)


@pytest.mark.parametrize("form", [LABELS, LABELS[:, None], EXPECTED])
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_class_probs_of_hard_labels_are_one_hot(form, dtype):
    assert np.array_equal(target(form, (4, 3), dtype), EXPECTED)


def test_class_probs_of_soft_labels_are_unchanged():
    soft = np.random.default_rng(0).dirichlet(np.ones(3), 4).astype("float32")
    assert np.array_equal(target(soft, (4, 3)), soft)
    assert target([[-1.0, -1.0, -1.0]], (1, 3)).tolist() == [[0, 0, 0]]


def test_a_distribution_of_pairs_is_that_of_each_label():
    found = target([[0.25, 1.0, -1.0]], (1, 3, 2))
    assert found.tolist() == [[[0.75, 0.25], [0, 1], [0, 0]]]
    assert target([[0, 1]], (1, 2, 2), "int32").tolist() == [[[1, 0], [0, 1]]]
