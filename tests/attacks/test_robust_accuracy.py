"""Accuracy before and under attack."""

import numpy as np
import pytest

from keras_dtkd.attacks import di2_fgsm, fgsm, pgd, robust_accuracy
from tests.attacks import oracle, trained
from tests.attacks.oracle import inputs, network

X, Y = inputs(50)
# Labels the model predicts, except for the first ten.
Y[10:] = oracle.logits(X[10:]).argmax(-1)


def is_correct(x):
    return oracle.logits(x).argmax(-1) == Y


@pytest.mark.parametrize("attack", [fgsm, pgd, di2_fgsm])
def test_robust_accuracy_is_the_fraction_correct_before_and_after_the_attack(attack):
    options = {fgsm: {}, pgd: {"random_start": False}, di2_fgsm: {"diversity": 0}}
    options = {"epsilon": 0.05, "batch_size": 20, **options[attack]}
    result = robust_accuracy(network(), X, Y, attack=attack, **options)
    x_adv = attack(network(), X, Y, **options)
    assert result.clean_accuracy == pytest.approx(is_correct(X).mean())
    assert (result.is_robust == (is_correct(X) & is_correct(x_adv))).all()
    assert result.robust_accuracy == pytest.approx(result.is_robust.mean())
    assert 0 < result.robust_accuracy < result.clean_accuracy < 1


@pytest.mark.parametrize("attack", [fgsm, pgd, di2_fgsm])
def test_an_attack_can_be_given_by_name(attack):
    options = {fgsm: {}, pgd: {"seed": 0}, di2_fgsm: {"diversity": 0}}[attack]
    by_name, by_function = (
        robust_accuracy(network(), X, Y, 0.05, attack=value, **options)
        for value in (attack.__name__, attack)
    )
    assert (by_name.is_robust == by_function.is_robust).all()


def test_misclassified_samples_are_not_attacked():
    calls = []

    def attack(model, x, y, epsilon, offset):
        calls.append((x, y, epsilon, offset))
        return x

    result = robust_accuracy(network(), X, Y, 0.3, attack=attack, offset=2)
    ((x, y, epsilon, offset),) = calls
    assert np.array_equal(x, X[is_correct(X)]) and (y == Y[is_correct(X)]).all()
    assert (epsilon, offset) == (0.3, 2)
    assert result.robust_accuracy == result.clean_accuracy


def test_a_custom_attack_must_keep_the_shape():
    with pytest.raises(ValueError, match="`robust_accuracy`: the attack received"):
        robust_accuracy(network(), X, Y, 0.3, attack=lambda m, x, y, e: x[:2])


def test_a_model_without_correct_predictions_is_not_attacked():
    y = oracle.logits(X).argmin(-1)
    result = robust_accuracy(network(), X, y, 0.3)
    assert (result.clean_accuracy, result.robust_accuracy) == (0.0, 0.0)
    assert not result.is_robust.any()


def test_is_robust_combines_several_attacks():
    x, y = trained.data()
    results = [
        robust_accuracy(trained.model(), x, y, 0.1, steps=1, step_size=0.05, seed=s)
        for s in (0, 1)
    ]
    both = results[0].is_robust & results[1].is_robust
    assert both.mean() < min(result.robust_accuracy for result in results)


def test_verbose_shows_progress(capsys):
    robust_accuracy(network(), X, Y, 0.1, steps=2)
    assert capsys.readouterr().out == ""
    robust_accuracy(network(), X, Y, 0.1, steps=2, verbose=1)
    assert "still_robust" in capsys.readouterr().out
