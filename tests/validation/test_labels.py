"""Labels and sample weights that would teach something else than they say."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.losses import KD, BinaryKD
from tests.tiny_models import (
    CLASSES,
    data,
    numbers,
    one_hot,
    same,
    sequence,
    student,
    teacher,
)

pytestmark = pytest.mark.invariant(number=10)
X, Y = data(32)
RNG = np.random.default_rng(0)


def fit(y, small=None, x=X, **kwargs):
    d = Distiller(teacher(), small or student(), KD())
    before = numbers(d.student)
    try:
        d.fit(x, y, verbose=0, **kwargs)
    except ValueError:
        assert same(before, d.student)
        raise
    return d


def with_rows_of_zeros():
    y = one_hot(Y)
    y[:5] = 0
    return y


WRONG = {
    "multi-hot": (np.eye(CLASSES)[Y] + np.eye(CLASSES)[(Y + 1) % CLASSES], "BinaryKD"),
    "one-hot x 255": (255 * one_hot(Y), "from 0 to 255 are no probabilities"),
    "integers x 255": ((255 * one_hot(Y)).astype("uint8"), "are no probabilities"),
    "logits": (RNG.normal(size=(32, CLASSES)).astype("float32"), "no probabilities"),
    "rows of zeros": (with_rows_of_zeros(), "5 rows.*`sample_weight` of 0"),
    "fractions": (RNG.uniform(0, 3, 32).astype("float32"), "fractions.*'mse'"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("is_data_set", [False, True])
def test_labels_that_the_default_loss_would_take_for_what_they_are_not(
    case, is_data_set
):
    y, message = WRONG[case]
    x, y = (X, y) if not is_data_set else ([(X, y)], None)
    with pytest.raises(ValueError, match=message):
        fit(y, x=iter(x) if is_data_set else x)


SOUND = {
    "one-hot": one_hot(Y),
    "one-hot integers": one_hot(Y).astype("int64"),
    "smoothed": 0.9 * one_hot(Y) + 0.1 / CLASSES,
    "half precision": (0.9 * one_hot(Y) + 0.1 / CLASSES).astype("float16"),
    "whole floats": Y.astype("float32"),
}


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("case", SOUND)
def test_other_forms_of_labels_are_taken_as_they_are(case):
    fit(SOUND[case])


def test_rows_of_zeros_of_weight_zero_count_nowhere():
    weights = np.ones(32, "float32")
    weights[:5] = 0
    fit(with_rows_of_zeros(), sample_weight=weights)
    fit(None, x=iter([(X, with_rows_of_zeros(), weights)]))


def test_multi_hot_labels_of_a_loss_that_the_user_chose_warn():
    small = student()
    small.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True))
    with pytest.warns(UserWarning, match="do not sum to 1"):
        fit(WRONG["multi-hot"][0], small)


def test_what_the_message_on_multi_hot_labels_advises_trains():
    small = student()
    small.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    d = Distiller(teacher(), small, BinaryKD())
    d.fit(X, WRONG["multi-hot"][0], verbose=0)


def test_zero_rows_of_padding_are_no_fault():
    x = np.array([[1, 2, 0, 0], [3, 1, 2, 0]] * 4)
    y = np.eye(3, dtype="float32")[x % 3] * (x > 0)[..., None]
    Distiller(sequence(1), sequence(2), KD()).fit(x, y, verbose=0)


WEIGHTS = {
    "negative": (-np.ones(32, "float32"), "a weight of -1"),
    "one negative": (np.where(np.arange(32) == 20, -0.5, 1.0), "a weight of -0.5"),
    "nan": (np.where(np.arange(32) == 20, np.nan, 1.0), "holds NaN"),
    "one a class": (np.ones((32, CLASSES), "float32"), "no axis for the classes"),
    "of another length": (np.ones(9, "float32"), "32 inputs and 9 weights"),
    "a list of numbers": ([1.0] * 32, r"np.asarray\(sample_weight\)"),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_make_no_sense(case):
    weights, message = WEIGHTS[case]
    with pytest.raises(ValueError, match=message):
        fit(Y, sample_weight=weights)


@pytest.mark.parametrize("case", ["negative", "nan", "one a class"])
def test_weights_of_batches_that_make_no_sense(case):
    weights, message = WEIGHTS[case]
    with pytest.raises(ValueError, match=message):
        fit(None, x=iter([(X, Y, weights)]))


def test_one_hot_labels_beside_integers_are_named_as_such():
    message = r"validation data of shape \(32, 4\) have a number for each.*argmax"
    with pytest.raises(ValueError, match=message):
        fit(Y, validation_data=(X, one_hot(Y)))


def test_class_weights_that_make_no_sense():
    with pytest.raises(ValueError, match="a weight of -1"):
        fit(Y, class_weight={0: -1.0, 1: 1.0, 2: 1.0, 3: 1.0})
    with pytest.raises(ValueError, match="`class_weight` needs labels"):
        fit(None, class_weight={0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0})


@pytest.mark.parametrize("weights", ["balanced", [1.0] * 4, np.ones(4)])
def test_class_weights_that_are_no_dict(weights):
    message = r"`class_weight` must be a dict, and is a \w+. Give `{class: weight}`"
    with pytest.raises(ValueError, match=message):
        fit(Y, class_weight=weights)


def test_class_weights_need_one_class_a_sample():
    chosen = dict.fromkeys(range(CLASSES), 1.0)
    several = one_hot(Y)
    several[:, 0] = 1.0
    d = Distiller(teacher("sigmoid"), student("sigmoid"))
    with pytest.raises(ValueError, match="`class_weight` is given.*several labels"):
        d.fit(X, several, class_weight=chosen, verbose=0)
    fit(one_hot(Y), class_weight=chosen)


def test_validation_weights_that_make_no_sense():
    with pytest.raises(ValueError, match="of the validation data` holds a weight"):
        fit(Y, validation_data=(X, Y, -np.ones(32)))
