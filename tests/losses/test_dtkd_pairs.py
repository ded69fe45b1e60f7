"""The authors' factors for each of their eleven pairs."""

import pytest

from keras_dtkd.losses import DTKD

# From the configurations in the authors' repository (notes on the paper).
TABLE = {
    ("resnet56", "resnet20"): (1, 0.5),
    ("resnet110", "resnet32"): (1, 0.5),
    ("resnet32x4", "resnet8x4"): (3, 1),
    ("wrn_40_2", "wrn_16_2"): (3, 1),
    ("wrn_40_2", "wrn_40_1"): (1, 0.5),
    ("vgg13", "vgg8"): (3, 1),
    ("resnet32x4", "shufflev1"): (3, 1),
    ("resnet32x4", "shufflev2"): (3, 1),
    ("wrn_40_2", "shufflev1"): (2, 0.5),
    ("vgg13", "mobilenetv2"): (3, 1),
    ("resnet50", "mobilenetv2"): (3, 2),
}


@pytest.mark.parametrize("pair", TABLE)
def test_each_pair_is_the_published_form_with_its_factors(pair):
    loss = DTKD.for_pair(*pair)
    assert (loss.alpha, loss.beta) == TABLE[pair]
    rule = loss.temperature
    assert (rule.rule, rule.stop_gradient, rule.min_temperature) == ("max", False, None)
    assert (float(rule.temperature), loss.warmup_epochs, loss.weight) == (4, 20, 1)


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
    ],
)
def test_names_may_be_written_as_the_papers_do(names, pair):
    loss = DTKD.for_pair(*names)
    assert (loss.alpha, loss.beta) == TABLE[pair]


def test_arguments_come_before_the_pairs_factors():
    loss = DTKD.for_pair("resnet56", "resnet20", alpha=7.0, warmup_epochs="auto")
    assert (loss.alpha, loss.beta, loss.warmup_epochs) == (7.0, 0.5, "auto")


@pytest.mark.parametrize(
    "teacher, student", [("resnet20", "resnet56"), ("vit", "resnet8x4"), (None, 3)]
)
def test_another_pair_is_refused_with_the_list(teacher, student):
    with pytest.raises(ValueError) as error:
        DTKD.for_pair(teacher, student)
    message = str(error.value)
    assert f"{teacher} → {student}" in message
    assert all(f"{t} → {s}" in message for t, s in TABLE)
    assert message.count("→") == 12
