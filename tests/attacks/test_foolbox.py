"""Agreement with foolbox, an independent library."""

import keras
import numpy as np
import pytest

from keras_dtkd.attacks import fgsm, pgd, robust_accuracy
from tests.attacks import trained

if keras.backend.backend() != "torch":
    pytest.skip("foolbox attacks PyTorch models", allow_module_level=True)
foolbox = pytest.importorskip("foolbox", reason="foolbox is not installed")

X, Y = trained.data(1000)
STEP, STEPS = 0.01, 20


def run_foolbox(attack, epsilon):
    import torch

    model = foolbox.PyTorchModel(trained.model().eval(), bounds=(0, 1))
    x, y = torch.tensor(X), torch.tensor(Y)
    x_adv, _, is_adversarial = attack(model, x, y, epsilons=epsilon)
    return x_adv.detach().numpy(), ~is_adversarial.numpy()


def mostly_equal(a, b):
    """Signs differ where one gradient is 0 and the other 1e-9."""
    return (np.abs(a - b) < 1e-5).all(-1).mean() > 0.99


@pytest.mark.parametrize("norm, prefix", [("linf", "Linf"), ("l2", "L2")])
def test_without_random_starts_the_adversarial_inputs_agree(norm, prefix):
    attacks = foolbox.attacks
    one_step = getattr(attacks, f"{prefix}FastGradientAttack")
    iterative = getattr(attacks, f"{prefix}ProjectedGradientDescentAttack")
    expected, _ = run_foolbox(one_step(random_start=False), 0.1)
    assert mostly_equal(expected, fgsm(trained.model(), X, Y, 0.1, norm=norm))
    options = {"steps": STEPS, "random_start": False}
    expected, _ = run_foolbox(iterative(abs_stepsize=STEP, **options), 0.1)
    x_adv = pgd(trained.model(), X, Y, 0.1, step_size=STEP, norm=norm, **options)
    assert mostly_equal(expected, x_adv)


@pytest.mark.parametrize("epsilon", [0.05, 0.1])
def test_with_random_starts_robust_accuracies_agree_within_half_a_percentage_point(
    epsilon,
):
    import torch

    torch.manual_seed(0)
    attack = foolbox.attacks.LinfProjectedGradientDescentAttack(
        abs_stepsize=epsilon / 10, steps=STEPS
    )
    is_robust = [run_foolbox(attack, epsilon)[1] for _ in range(5)]
    expected = np.logical_and.reduce(is_robust).mean()
    result = robust_accuracy(trained.model(), X, Y, epsilon, restarts=5, seed=0)
    assert 0.05 < result.robust_accuracy < 0.95
    assert abs(result.robust_accuracy - expected) <= 0.005
