"""Many steps and restarts: the formula, the ball, and the best start of each sample."""

import importlib

import numpy as np
import pytest

from keras_dtkd.attacks import fgsm, pgd, robust_accuracy
from tests.attacks import oracle, trained
from tests.attacks.oracle import inputs, network

X, Y = inputs()


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("clip", [True, False])
def test_without_a_random_start_pgd_equals_the_formula(norm, momentum, clip):
    options = {"norm": norm, "momentum": momentum, "random_start": False}
    x_adv = pgd(
        network(),
        X,
        Y,
        0.3,
        steps=5,
        step_size=0.1,
        range=(0, 1) if clip else None,
        **options,
    )
    expected = oracle.iterate(X, Y, 0.3, 5, 0.1, norm, momentum, clip=clip)
    np.testing.assert_allclose(x_adv, expected, atol=1e-5)


def test_the_default_steps_add_up_to_two_radii():
    x_adv = pgd(network(), X, Y, 0.3, steps=4, random_start=False)
    expected = oracle.iterate(X, Y, 0.3, 4, 0.15)
    np.testing.assert_allclose(x_adv, expected, atol=1e-5)


def test_a_targeted_attack_decreases_the_loss_of_the_target():
    x_adv = pgd(network(), X, Y, 0.3, steps=4, random_start=False, targeted=True)
    expected = oracle.iterate(X, Y, 0.3, 4, 0.15, sign=-1.0)
    np.testing.assert_allclose(x_adv, expected, atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_results_lie_in_the_ball_and_in_the_range(norm, momentum):
    x_adv = pgd(network(), X, Y, 0.25, norm=norm, momentum=momentum, restarts=2, seed=0)
    order = {"linf": np.inf, "l2": 2}[norm]
    lengths = oracle.norm((x_adv - X).astype("float64"), order)
    assert (lengths <= 0.25 + 1e-6).all() and lengths.mean() > 0.2
    assert x_adv.min() >= 0 and x_adv.max() <= 1


def test_range_and_radius_can_differ_between_channels():
    mean, std = np.linspace(0.3, 0.6, 6), np.linspace(0.2, 0.4, 6)
    x = ((X - mean) / std).astype("float32")
    low, high = (0 - mean) / std, (1 - mean) / std
    x_adv = pgd(network(), x, Y, 0.1 / std, range=(low, high), seed=0)
    pixels = x_adv * std + mean
    assert np.abs(pixels - X).max() <= 0.1 + 1e-5
    assert np.abs(pixels - X).max(0).min() > 0.09
    assert pixels.min() > -1e-5 and pixels.max() < 1 + 1e-5
    explicit = pgd(
        network(), x, Y, 0.1 / std, step_size=0.01 / std, range=(low, high), seed=0
    )
    np.testing.assert_allclose(x_adv, explicit, atol=1e-6)


def test_random_starts_are_uniform_in_the_ball_and_seeded():
    from keras_dtkd.attacks.threat_model import L2, Linf

    rng = np.random.default_rng(0)
    for ball, order in ((Linf, np.inf), (L2, 2)):
        samples = ball(np.float32(0.5)).sample(rng, (2000, 3))
        radii = np.linalg.norm(samples, order, axis=-1) / 0.5
        assert radii.max() <= 1 + 1e-6
        # In three dimensions, half the radius contains an eighth of the volume.
        assert abs((radii < 0.5).mean() - 0.125) < 0.03
    options = {"steps": 1, "step_size": 0.01}
    first, repeated, other = (
        pgd(network(), X, Y, 0.3, seed=seed, **options) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, repeated) and not np.array_equal(first, other)
    unseeded = (pgd(network(), X, Y, 0.3, **options) for _ in range(2))
    assert not np.array_equal(*unseeded)


def test_pgd_is_stronger_than_fgsm():
    x, y = trained.data()
    weak = robust_accuracy(trained.model(), x, y, 0.1, attack=fgsm)
    strong = robust_accuracy(trained.model(), x, y, 0.1, seed=0)
    assert strong.robust_accuracy <= weak.robust_accuracy <= weak.clean_accuracy
    assert strong.robust_accuracy < weak.clean_accuracy - 0.1


def test_restarts_never_raise_the_robust_accuracy():
    x, y = trained.data()
    options = {"steps": 2, "step_size": 0.03, "seed": 0, "batch_size": 64}
    is_robust = [
        robust_accuracy(trained.model(), x, y, 0.1, restarts=n, **options).is_robust
        for n in (1, 6)
    ]
    assert not (is_robust[1] & ~is_robust[0]).any()
    assert is_robust[1].sum() < is_robust[0].sum()


def test_a_sample_keeps_the_first_successful_start_or_the_one_of_highest_loss():
    options = {"steps": 1, "step_size": 0.01, "seed": 3}
    one, three = (pgd(network(), X, Y, 0.3, restarts=n, **options) for n in (1, 3))
    misled = oracle.logits(one).argmax(-1) != Y
    assert 0 < misled.sum() < len(X)
    assert np.array_equal(one[misled], three[misled])
    misled_by_three = oracle.logits(three).argmax(-1) != Y
    assert misled_by_three[misled].all()
    losses = [oracle.cross_entropy(x, Y) for x in (one, three)]
    robust = ~misled_by_three
    assert (losses[1][robust] >= losses[0][robust] - 1e-6).all()
    assert (losses[1][robust] > losses[0][robust] + 1e-4).any()


def test_a_targeted_attack_succeeds_in_a_large_ball():
    x_adv = pgd(
        network(), X, (Y + 1) % 4, 2.0, targeted=True, range=None, restarts=2, seed=0
    )
    assert (oracle.logits(x_adv).argmax(-1) == (Y + 1) % 4).mean() > 0.9


def test_misled_samples_get_no_further_start(monkeypatch):
    # `keras_dtkd.attacks.pgd` is the function.
    module = importlib.import_module("keras_dtkd.attacks.pgd")
    sizes, run_attack = [], module.run_attack

    def counting(attacked, x, *args):
        sizes.append(len(x))
        return run_attack(attacked, x, *args)

    monkeypatch.setattr(module, "run_attack", counting)
    pgd(network(), X, Y, 0.05, steps=2, restarts=2, seed=0)
    assert sizes[0] == len(X) and 0 < sizes[1] < len(X)


def test_progress_counts_every_start_of_every_sample(capsys):
    pgd(network(), X, Y, 0.1, steps=2, restarts=3, seed=0, batch_size=20)
    assert capsys.readouterr().out == ""
    pgd(network(), X, Y, 0.1, steps=2, restarts=3, seed=0, batch_size=20, verbose=1)
    out = capsys.readouterr().out
    assert "96/96" in out and "still_robust" in out
