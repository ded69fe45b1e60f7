"""GeneralizedJSD equals its formula in both conventions, and has their ends."""

import numpy as np
import pytest

from keras_dtkd.losses import KD, GeneralizedJSD
from tests import oracles_pointwise
from tests.gradients import value_and_grad
from tests.logit_cases import (
    CASE,
    CASE_NAMES,
    CASES,
    assert_close,
    assert_equals_oracle,
    digits,
    results,
)
from tests.tensors import numpy, tensor

CONVENTIONS = ("gkd", "continuous")
FORMS = [(c, beta) for c in CONVENTIONS for beta in (0.1, 0.5, 0.9)]
ENDS = [(c, beta) for c in CONVENTIONS for beta in (0.0, 1.0)]


def oracle(beta, convention, tau=1.0):
    return lambda student, teacher: (
        tau**2
        * oracles_pointwise.generalized_jsd(
            teacher / tau, student / tau, beta, convention
        )
    )


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASE_NAMES)
@pytest.mark.parametrize("convention, beta", FORMS + ENDS)
def test_equals_the_formula(convention, beta, case):
    assert_equals_oracle(
        GeneralizedJSD(beta, convention=convention),
        oracle(beta, convention),
        CASES[case],
        scale=digits(CASES[case]),
    )


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("convention, beta", [("gkd", 0.1), ("continuous", 0.9)])
def test_other_arguments_equal_the_formula(convention, beta):
    assert_equals_oracle(
        GeneralizedJSD(beta, temperature=2.0, convention=convention),
        oracle(beta, convention, 2.0),
        CASE,
    )


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_ends_are_the_two_kls_and_the_middle_is_jsd(convention):
    for beta, name in ((0, "kl"), (0.5, "jsd"), (1, "reverse_kl")):
        loss = GeneralizedJSD(beta, convention=convention)
        expected = results(KD(1.0, divergence=name))
        for found, other in zip(results(loss), expected, strict=True):
            assert_close(found, other, 1e-6, np.abs(other).max())


@pytest.mark.parametrize("end, near", [(0.0, 0.001), (1.0, 0.999)])
def test_continuous_convention_is_continuous_at_its_ends_and_gkd_jumps(end, near):
    at, close, gkd = (
        results(GeneralizedJSD(beta, 4.0, convention))[0]
        for beta, convention in (
            (end, "continuous"),
            (near, "continuous"),
            (near, "gkd"),
        )
    )
    assert np.abs(close / at - 1).max() < 0.02
    # Near its ends the published form is the distance to them times their KL.
    assert np.abs(gkd / (0.001 * at) - 1).max() < 0.02


# The logits that TRL's tests pin its GKDTrainer with (torch seed 42), the tokens that
# its labels keep, and what TRL 1.16.0 gives: the sum over sequences, then the mean over
# kept tokens.
TRL_STUDENT, TRL_TEACHER = np.array(
    [
        [
            [1.9269152879714966, 1.4872840642929077, 0.9007171988487244],
            [-2.1055209636688232, 0.6784184575080872, -1.2345448732376099],
            [-0.04306747764348984, -1.6046669483184814, -0.7521352767944336],
            [1.6487230062484741, -0.3924786448478699, -1.4036071300506592],
            [-0.7278813123703003, -0.5594301819801331, -2.316922664642334],
            [-0.21680472791194916, -1.3846737146377563, -0.8712361454963684],
            [-0.223365917801857, 1.7173614501953125, 0.3188803195953369],
            [-0.42451897263526917, -0.8285542726516724, 0.3308984339237213],
            [-1.5575724840164185, 0.9956361055374146, -0.8797858357429504],
            [-0.6011420488357544, -1.2741512060165405, 2.1227850914001465],
        ],
        [
            [-1.0891753435134888, -0.3552866280078888, -0.9138230085372925],
            [-0.6581372618675232, 0.07802387326955795, 0.5258087515830994],
            [-0.48799172043800354, 1.1913690567016602, -1.386365532875061],
            [-1.2862155437469482, -1.4032478332519531, 0.03600366786122322],
            [-0.06347727030515671, 0.6756148934364319, 0.19707036018371582],
            [-1.1441359519958496, 0.3383229672908783, 1.6991702318191528],
            [0.01086814422160387, -0.33874234557151794, -1.3406795263290405],
            [-0.5853705406188965, -0.5644400119781494, 1.056300163269043],
            [-1.4691500663757324, 1.4331552982330322, 0.7439519762992859],
            [-0.4815843999385834, -1.0494661331176758, 0.603898823261261],
        ],
    ]
).reshape(2, 2, 3, 5)
TRL_MASK = np.array([[0, 1, 1], [0, 0, 1]])
TRL_NUMBERS = {
    0.0: (2.7270145416259766, 0.9773356914520264),
    0.1: (0.22412069141864777, 0.08021711558103561),
    0.25: (0.43746867775917053, 0.15668633580207825),
    0.5: (0.5648723244667053, 0.20300734043121338),
    0.9: (0.22414150834083557, 0.08198759704828262),
    1.0: (2.699793815612793, 1.0041626691818237),
}


@pytest.mark.parametrize("beta", TRL_NUMBERS)
def test_gives_the_numbers_of_trl(beta):
    loss = GeneralizedJSD(beta)
    values = loss(tensor(TRL_STUDENT), tensor(TRL_TEACHER))
    total, masked = TRL_NUMBERS[beta]
    assert numpy(values).sum() / 2 == pytest.approx(total, rel=1e-5)
    mean = loss.reduce(values, sample_weight=tensor(TRL_MASK))
    assert float(numpy(mean)) == pytest.approx(masked, rel=1e-5)


def test_gives_the_two_kls_of_trls_edge_cases():
    student, teacher = np.log([[0.1, 0.9]]), np.log([[0.9, 0.1]])
    for beta in (0, 1):
        value = numpy(GeneralizedJSD(beta)(tensor(student), tensor(teacher)))
        assert value == pytest.approx([1.757779598236084], rel=1e-6)


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("beta", (0.0, 0.1, 0.5, 0.9, 1.0))
def test_a_mean_over_valid_tokens_is_that_of_the_formula(beta, convention):
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(scale=3.0, size=(2, 4, 6, 7))
    mask = np.arange(6) < np.array([[6], [2], [0], [3]])
    formula = oracles_pointwise.generalized_jsd(teacher, student, beta, convention)
    loss = GeneralizedJSD(beta, convention=convention)

    def mean(logits, rows=slice(None)):
        values = loss(logits, tensor(teacher[rows]))
        return loss.reduce(values, sample_weight=tensor(mask[rows]))

    value, gradient = value_and_grad(mean, student)
    assert_close(value, formula[mask].mean(), 1e-5)
    assert not gradient[~mask].any()
    # Micro-batches, each by its share of the tokens, are the batch.
    total, parts = 0.0, []
    for rows in (slice(0, 1), slice(1, 4)):
        share = mask[rows].sum() / mask.sum()
        part, slope = value_and_grad(lambda z, r=rows: mean(z, r), student[rows])
        total, parts = total + share * part, [*parts, share * slope]
    assert_close(total, value, 1e-5)
    assert_close(np.concatenate(parts), gradient, 1e-5, np.abs(gradient).max())
