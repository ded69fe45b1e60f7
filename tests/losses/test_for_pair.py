"""`DKD.for_pair` and `DTKD.for_pair`: the authors' constants for their eleven pairs."""

import pytest

from keras_dtkd.core.model_pairs import PAIRS
from keras_dtkd.losses import DKD, DTKD

# DTKD's alpha and beta, DKD's beta: from the configurations in the authors'
# repositories.
TABLE = {
    ("resnet56", "resnet20"): (1, 0.5, 2),
    ("resnet110", "resnet32"): (1, 0.5, 2),
    ("resnet32x4", "resnet8x4"): (3, 1, 8),
    ("wrn_40_2", "wrn_16_2"): (3, 1, 6),
    ("wrn_40_2", "wrn_40_1"): (1, 0.5, 6),
    ("vgg13", "vgg8"): (3, 1, 6),
    ("resnet32x4", "shufflev1"): (3, 1, 8),
    ("resnet32x4", "shufflev2"): (3, 1, 8),
    ("wrn_40_2", "shufflev1"): (2, 0.5, 8),
    ("vgg13", "mobilenetv2"): (3, 1, 6),
    ("resnet50", "mobilenetv2"): (3, 2, 8),
}


def test_table_has_the_pairs_of_the_authors():
    assert set(PAIRS) == set(TABLE)


@pytest.mark.parametrize("pair", TABLE)
def test_dtkd_of_a_pair_is_the_published_form_with_its_constants(pair):
    loss = DTKD.for_pair(*pair)
    assert (loss.alpha, loss.beta) == TABLE[pair][:2]
    dynamic = loss.temperature
    assert (dynamic.rule, dynamic.stop_gradient, dynamic.min_temperature) == (
        "max",
        False,
        None,
    )
    assert (float(dynamic.temperature), loss.warmup_epochs, loss.weight) == (4, 20, 1)


@pytest.mark.parametrize("pair", TABLE)
def test_dkd_of_a_pair_is_the_authors_form_with_its_beta(pair):
    loss = DKD.for_pair(*pair)
    assert (loss.alpha, loss.beta) == (1, TABLE[pair][2])
    assert (float(loss.temperature), loss.warmup_epochs, loss.weight) == (4, 20, 1)


@pytest.mark.parametrize(
    "names, pair",
    [
        (("ResNet32x4", "ResNet8x4"), ("resnet32x4", "resnet8x4")),
        (("res56", "res20"), ("resnet56", "resnet20")),
        (("WRN-40-2", "wrn401"), ("wrn_40_2", "wrn_40_1")),
        (("wrn_40_2", "ShuffleNetV1"), ("wrn_40_2", "shufflev1")),
        (("wrn40_2", "ShuV1"), ("wrn_40_2", "shufflev1")),
        (("ResNet50", "MobileNetV2"), ("resnet50", "mobilenetv2")),
        (("res50", "mv2"), ("resnet50", "mobilenetv2")),
        (("res32x4", "ShuffleNetV2"), ("resnet32x4", "shufflev2")),
    ],
)
def test_network_names_are_accepted_in_the_spellings_of_papers(names, pair):
    dtkd, dkd = DTKD.for_pair(*names), DKD.for_pair(*names)
    assert (dtkd.alpha, dtkd.beta, dkd.beta) == TABLE[pair]


def test_arguments_override_the_constants_of_the_pair():
    options = {"warmup_epochs": "auto"}
    loss = DTKD.for_pair("resnet56", "resnet20", alpha=7.0, **options)
    assert (loss.alpha, loss.beta, loss.warmup_epochs) == (7.0, 0.5, "auto")
    loss = DKD.for_pair("resnet56", "resnet20", beta=7.0, **options)
    assert (loss.beta, loss.warmup_epochs) == (7.0, "auto")


@pytest.mark.parametrize(
    "loss, hint", [(DKD, "`DKD(beta=…)`"), (DTKD, "`DTKD.published(alpha=…, beta=…)`")]
)
@pytest.mark.parametrize(
    "teacher, student", [("resnet20", "resnet56"), ("vit", "resnet8x4"), (None, 3)]
)
def test_unknown_pair_raises_with_the_list(teacher, student, loss, hint):
    with pytest.raises(ValueError) as error:
        loss.for_pair(teacher, student)
    message = str(error.value)
    assert f"`{loss.__name__}.for_pair`" in message and hint in message
    assert f"{teacher} → {student}" in message
    assert all(f"{t} → {s}" in message for t, s in TABLE)
    assert message.count("→") == 12
