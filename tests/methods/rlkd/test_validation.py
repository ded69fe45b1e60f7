"""`holdout=(x, y)` is validated like the data trained on."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.losses import KD
from keras_dtkd.methods.rlkd import Policy
from keras_dtkd.preparation.prepare import prepare_fit
from tests.tiny_models import (
    data,
    distiller,
    numbers,
    one_hot,
    same,
    sequence,
    student,
    two_outputs,
)

pytestmark = pytest.mark.invariant(number=10)

X, Y = data(16)
HELD = data(12, seed=5)

WRONG = {
    "labels": ((HELD[0], HELD[1] + 1), "labels of the held-out samples from 1 to 4, "),
    "negative": ((HELD[0], -HELD[1] - 1), "held-out samples from -4 to -1, but"),
    "text": ((HELD[0], HELD[1].astype(str)), "labels of the held-out samples such as"),
    "width": ((HELD[0], one_hot(HELD[1], 5)), r"held-out samples of shape \(12, 5\)"),
    "nan": ((HELD[0] * np.nan, HELD[1]), "`Policy`: 12 of 12 inputs of the held-out"),
    "shape": ((HELD[0][:, :5], HELD[1]), "`Policy`: the student cannot .* held-out"),
}


@pytest.mark.parametrize("case", WRONG)
def test_samples_that_do_not_fit_are_refused_before_the_first_step(case):
    holdout, message = WRONG[case]
    small = student()
    before = numbers(small)
    d = distiller(KD(Policy(holdout=holdout)), student=small)
    with pytest.raises(ValueError, match=message):
        d.fit(X, Y, verbose=0)
    assert same(before, small)


def test_labels_of_another_output_than_the_distilled_one_are_refused():
    models = [two_outputs("dict", seed) for seed in (1, 5)]
    held = HELD[0], {"size": HELD[0][:, :1]}
    d = Distiller(*models, KD(Policy(holdout=held)), output="label")
    d.compile("sgd", {"label": "mse", "size": "mse"})
    with pytest.raises(
        ValueError, match="held-out samples needs? the labels .*'label'"
    ):
        d.fit(X, {"label": one_hot(Y), "size": X[:, :1]}, verbose=0)


def test_another_scale_is_a_warning():
    d = distiller(KD(Policy(holdout=(255 * HELD[0], HELD[1] + 1))))
    with (
        pytest.warns(UserWarning, match="`Policy`: the inputs of the held-out samples"),
        pytest.raises(ValueError, match="labels"),
    ):
        d.fit(X, Y, verbose=0)


def test_padding_of_sequences_is_no_wrong_label():
    x = np.array([[1, 2, 3, 0], [4, 5, 0, 0]] * 4)
    y = np.where(x == 0, -1, x % 3)

    def check(labels):
        policy = Policy(holdout=(x, labels))
        d = Distiller(sequence(5), sequence(1), KD(policy))
        prepare_fit(d, x, x % 3, None, {})

    check(y)
    with pytest.raises(ValueError, match="held-out samples from -2 to 1"):
        check(y - 1)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_reward_spans_whole_updates_of_accumulated_gradients(scaled):
    def check(every):
        optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
        if scaled:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        policy = Policy(reward_every=every)
        prepare_fit(distiller(KD(policy), optimizer), X, Y, None, {})

    with pytest.raises(ValueError, match="once in 2 steps.*Received: reward_every=1"):
        check(1)
    check(4)


def test_inputs_by_name_reach_the_student_as_they_are():
    def model(seed):
        inputs = {name: keras.Input((3,), name=name) for name in "ab"}
        both = keras.layers.Concatenate()(list(inputs.values()))
        start = keras.initializers.GlorotUniform(seed)
        return keras.Model(
            inputs, keras.layers.Dense(4, kernel_initializer=start)(both)
        )

    def named(x):
        return {"a": x[:, :3], "b": x[:, 3:]}

    held = named(HELD[0]), HELD[1]
    policy = Policy(holdout=held)
    assert type(policy.holdout[0]) is dict
    d = distiller(KD(policy), teacher=model(1), student=model(2))
    history = d.fit(named(X), Y, verbose=0).history
    assert np.isfinite(history["reward"]).all()
