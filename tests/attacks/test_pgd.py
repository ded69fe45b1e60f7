"""Many steps: what the formula says, within the ball, and never worse for more."""

import numpy as np
import pytest

from keras_dtkd.attacks import fgsm, pgd, robust_accuracy
from tests.attacks import oracle, trained
from tests.attacks.oracle import inputs, network

X, Y = inputs()


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("kind", ["linf", "l2"])
@pytest.mark.parametrize("limits", [True, False])
def test_without_a_random_start_each_backend_gives_what_the_formula_gives(
    kind, momentum, limits
):
    options = {"norm": kind, "momentum": momentum, "random_start": False}
    found = pgd(
        network(),
        X,
        Y,
        0.3,
        steps=5,
        step_size=0.1,
        range=(0, 1) if limits else None,
        **options,
    )
    expected = oracle.ascend(X, Y, 0.3, 5, 0.1, kind, momentum, limits=limits)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_steps_are_two_radii_together_unless_told_otherwise():
    found = pgd(network(), X, Y, 0.3, steps=4, random_start=False)
    expected = oracle.ascend(X, Y, 0.3, 4, 0.15)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_towards_a_target_it_is_the_same_downwards():
    found = pgd(network(), X, Y, 0.3, steps=4, random_start=False, targeted=True)
    expected = oracle.ascend(X, Y, 0.3, 4, 0.15, up=-1.0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["linf", "l2"])
@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_results_lie_in_the_ball_and_in_the_range(kind, momentum):
    found = pgd(network(), X, Y, 0.25, norm=kind, momentum=momentum, restarts=2, seed=0)
    size = {"linf": np.inf, "l2": 2}[kind]
    lengths = oracle.norm((found - X).astype("float64"), size)
    assert (lengths <= 0.25 + 1e-6).all() and lengths.mean() > 0.2
    assert found.min() >= 0 and found.max() <= 1


def test_a_range_and_a_radius_may_differ_from_channel_to_channel():
    mean, std = np.linspace(0.3, 0.6, 6), np.linspace(0.2, 0.4, 6)
    x = ((X - mean) / std).astype("float32")
    low, high = (0 - mean) / std, (1 - mean) / std
    found = pgd(network(), x, Y, 0.1 / std, range=(low, high), seed=0)
    pixels = found * std + mean
    assert np.abs(pixels - X).max() <= 0.1 + 1e-5
    assert np.abs(pixels - X).max(0).min() > 0.09
    assert pixels.min() > -1e-5 and pixels.max() < 1 + 1e-5
    given = pgd(
        network(), x, Y, 0.1 / std, step_size=0.01 / std, range=(low, high), seed=0
    )
    np.testing.assert_allclose(found, given, atol=1e-6)


def test_a_random_start_is_somewhere_in_the_ball_and_a_seed_says_where():
    from keras_dtkd.attacks.threat_model import L2, Linf

    rng = np.random.default_rng(0)
    for ball, order in ((Linf, np.inf), (L2, 2)):
        drawn = ball(np.float32(0.5)).draw(rng, (2000, 3))
        radii = np.linalg.norm(drawn, order, axis=-1) / 0.5
        assert radii.max() <= 1 + 1e-6
        # Of a ball in three dimensions, an eighth lies within half the radius.
        assert abs((radii < 0.5).mean() - 0.125) < 0.03
    some = {"steps": 1, "step_size": 0.01}
    first, again, other = (pgd(network(), X, Y, 0.3, seed=s, **some) for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    fresh = (pgd(network(), X, Y, 0.3, **some) for _ in range(2))
    assert not np.array_equal(*fresh)


def test_it_is_never_worse_than_one_step():
    x, y = trained.data()
    one = robust_accuracy(trained.model(), x, y, 0.1, attack=fgsm)
    many = robust_accuracy(trained.model(), x, y, 0.1, seed=0)
    assert many.robust <= one.robust <= one.clean
    assert many.robust < one.clean - 0.1


def test_restarts_never_raise_the_robust_accuracy():
    x, y = trained.data()
    few = {"steps": 2, "step_size": 0.03, "seed": 0, "batch_size": 64}
    stood = [
        robust_accuracy(trained.model(), x, y, 0.1, restarts=n, **few).stood
        for n in (1, 6)
    ]
    assert not (stood[1] & ~stood[0]).any()
    assert stood[1].sum() < stood[0].sum()


def test_a_sample_keeps_the_first_start_that_succeeds_or_else_the_highest():
    few = {"steps": 1, "step_size": 0.01, "seed": 3}
    one, three = (pgd(network(), X, Y, 0.3, restarts=n, **few) for n in (1, 3))
    fooled = oracle.logits(one).argmax(-1) != Y
    assert 0 < fooled.sum() < len(X)
    assert np.array_equal(one[fooled], three[fooled])
    now = oracle.logits(three).argmax(-1) != Y
    assert now[fooled].all()
    losses = [oracle.cross_entropy(x, Y) for x in (one, three)]
    standing = ~now
    assert (losses[1][standing] >= losses[0][standing] - 1e-6).all()
    assert (losses[1][standing] > losses[0][standing] + 1e-4).any()


def test_towards_a_target_success_is_the_target():
    # Every other class: the model says so in the end, where a ball is large.
    found = pgd(
        network(), X, (Y + 1) % 4, 2.0, targeted=True, range=None, restarts=2, seed=0
    )
    assert (oracle.logits(found).argmax(-1) == (Y + 1) % 4).mean() > 0.9


def test_samples_that_fell_get_no_further_start(monkeypatch):
    from keras_dtkd.attacks import search

    sizes, climb = [], search.climb

    def counting(victim, x, *rest):
        sizes.append(len(x))
        return climb(victim, x, *rest)

    monkeypatch.setattr(search, "climb", counting)
    pgd(network(), X, Y, 0.05, steps=2, restarts=2, seed=0)
    assert sizes[0] == len(X) and 0 < sizes[1] < len(X)


def test_progress_ends_at_all_starts_of_all_samples(capsys):
    pgd(network(), X, Y, 0.1, steps=2, restarts=3, seed=0, batch_size=20)
    assert capsys.readouterr().out == ""
    pgd(network(), X, Y, 0.1, steps=2, restarts=3, seed=0, batch_size=20, verbose=1)
    out = capsys.readouterr().out
    assert "96/96" in out and "standing" in out
