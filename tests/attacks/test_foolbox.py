"""The same attacks by foolbox, an independent library."""

import keras
import numpy as np
import pytest

from keras_dtkd.attacks import fgsm, pgd, robust_accuracy
from tests.attacks import trained

if keras.backend.backend() != "torch":
    pytest.skip("foolbox attacks PyTorch models", allow_module_level=True)
foolbox = pytest.importorskip("foolbox", reason="the other library: foolbox")

X, Y = trained.data(1000)
STEP, STEPS = 0.01, 20


def theirs(attack, epsilon):
    import torch

    model = foolbox.PyTorchModel(trained.model().eval(), bounds=(0, 1))
    found, _, fooled = attack(model, torch.tensor(X), torch.tensor(Y), epsilons=epsilon)
    return found.detach().numpy(), ~fooled.numpy()


def mostly_equal(a, b):
    """A gradient of 0 in one library and of 1e-9 in the other has two signs."""
    return (np.abs(a - b) < 1e-5).all(-1).mean() > 0.99


@pytest.mark.parametrize("norm, theirs_is", [("linf", "Linf"), ("l2", "L2")])
def test_without_chance_both_give_the_same_inputs(norm, theirs_is):
    attacks = foolbox.attacks
    one = getattr(attacks, f"{theirs_is}FastGradientAttack")
    many = getattr(attacks, f"{theirs_is}ProjectedGradientDescentAttack")
    found, _ = theirs(one(random_start=False), 0.1)
    assert mostly_equal(found, fgsm(trained.model(), X, Y, 0.1, norm=norm))
    options = {"steps": STEPS, "random_start": False}
    found, _ = theirs(many(abs_stepsize=STEP, **options), 0.1)
    ours = pgd(trained.model(), X, Y, 0.1, step_size=STEP, norm=norm, **options)
    assert mostly_equal(found, ours)


@pytest.mark.parametrize("epsilon", [0.05, 0.1])
def test_with_random_starts_robust_accuracies_agree_within_half_a_point(epsilon):
    import torch

    torch.manual_seed(0)
    attack = foolbox.attacks.LinfProjectedGradientDescentAttack(
        abs_stepsize=epsilon / 10, steps=STEPS
    )
    stood = np.logical_and.reduce([theirs(attack, epsilon)[1] for _ in range(5)])
    ours = robust_accuracy(trained.model(), X, Y, epsilon, restarts=5, seed=0)
    assert 0.05 < ours.robust < 0.95
    assert abs(ours.robust - stood.mean()) <= 0.005
