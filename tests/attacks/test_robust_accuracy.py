"""Accuracy before and under attack."""

import numpy as np
import pytest

from keras_dtkd.attacks import di2_fgsm, fgsm, pgd, robust_accuracy
from tests.attacks import oracle, trained
from tests.attacks.oracle import inputs, network

X, Y = inputs(50)
# Right in all but the first ten, but for chance.
Y[10:] = oracle.logits(X[10:]).argmax(-1)


def right(x):
    return oracle.logits(x).argmax(-1) == Y


@pytest.mark.parametrize("attack", [fgsm, pgd, di2_fgsm])
def test_it_is_the_share_right_before_and_after_the_attack(attack):
    options = {fgsm: {}, pgd: {"random_start": False}, di2_fgsm: {"diversity": 0}}
    options = {"epsilon": 0.05, "batch_size": 20, **options[attack]}
    found = robust_accuracy(network(), X, Y, attack=attack, **options)
    moved = attack(network(), X, Y, **options)
    assert found.clean == pytest.approx(right(X).mean())
    assert (found.stood == (right(X) & right(moved))).all()
    assert found.robust == pytest.approx(found.stood.mean())
    assert 0 < found.robust < found.clean < 1


@pytest.mark.parametrize("attack", [fgsm, pgd, di2_fgsm])
def test_an_attack_may_be_given_by_its_name(attack):
    options = {fgsm: {}, pgd: {"seed": 0}, di2_fgsm: {"diversity": 0}}[attack]
    found, expected = (
        robust_accuracy(network(), X, Y, 0.05, attack=one, **options)
        for one in (attack.__name__, attack)
    )
    assert (found.stood == expected.stood).all()


def test_a_sample_that_was_wrong_is_not_attacked_and_does_not_count():
    seen = []

    def attack(model, x, y, epsilon, offset):
        seen.append((x, y, epsilon, offset))
        # Inputs of another sample of the same label: the model is right again.
        return x

    found = robust_accuracy(network(), X, Y, 0.3, attack=attack, offset=2)
    ((x, y, epsilon, offset),) = seen
    assert np.array_equal(x, X[right(X)]) and (y == Y[right(X)]).all()
    assert (epsilon, offset) == (0.3, 2)
    assert found.robust == found.clean


def test_an_attack_of_ones_own_must_answer_for_each():
    with pytest.raises(ValueError, match="`robust_accuracy`: the attack was given"):
        robust_accuracy(network(), X, Y, 0.3, attack=lambda m, x, y, e: x[:2])


def test_a_model_that_is_never_right_is_not_attacked():
    y = oracle.logits(X).argmin(-1)
    found = robust_accuracy(network(), X, y, 0.3)
    assert (found.clean, found.robust) == (0.0, 0.0) and not found.stood.any()


def test_several_attacks_leave_what_stood_all_of_them():
    x, y = trained.data()
    few = [
        robust_accuracy(trained.model(), x, y, 0.1, steps=1, step_size=0.05, seed=s)
        for s in (0, 1)
    ]
    both = few[0].stood & few[1].stood
    assert both.mean() < min(found.robust for found in few)


def test_progress_is_shown_on_request(capsys):
    robust_accuracy(network(), X, Y, 0.1, steps=2)
    assert capsys.readouterr().out == ""
    robust_accuracy(network(), X, Y, 0.1, steps=2, verbose=1)
    assert "standing" in capsys.readouterr().out
