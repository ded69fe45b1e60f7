"""The authors' factor for each of their eleven pairs."""

import pytest

from keras_dtkd.losses import DKD
from keras_dtkd.losses.dtkd_pairs import PAIRS

# From the configurations in the authors' repository (notes on the paper).
TABLE = {
    ("resnet56", "resnet20"): 2,
    ("resnet110", "resnet32"): 2,
    ("resnet32x4", "resnet8x4"): 8,
    ("wrn_40_2", "wrn_16_2"): 6,
    ("wrn_40_2", "wrn_40_1"): 6,
    ("vgg13", "vgg8"): 6,
    ("vgg13", "mobilenetv2"): 6,
    ("resnet50", "mobilenetv2"): 8,
    ("resnet32x4", "shufflev1"): 8,
    ("resnet32x4", "shufflev2"): 8,
    ("wrn_40_2", "shufflev1"): 8,
}


@pytest.mark.parametrize("pair", TABLE)
def test_each_pair_is_the_authors_form_with_its_factor(pair):
    loss = DKD.for_pair(*pair)
    assert (loss.alpha, loss.beta) == (1, TABLE[pair])
    assert (float(loss.temperature), loss.warmup_epochs, loss.weight) == (4, 20, 1)


def test_the_pairs_are_those_of_dtkd():
    assert set(TABLE) == set(PAIRS)


@pytest.mark.parametrize(
    "names, factor",
    [
        (("res56", "ResNet20"), 2),
        (("WRN-40-2", "wrn401"), 6),
        (("VGG13", "mv2"), 6),
        (("res32x4", "ShuffleNetV2"), 8),
    ],
)
def test_names_may_be_written_as_the_papers_do(names, factor):
    assert DKD.for_pair(*names).beta == factor


def test_arguments_come_before_the_pairs_factor():
    loss = DKD.for_pair("resnet56", "resnet20", beta=7.0, warmup_epochs="auto")
    assert (loss.beta, loss.warmup_epochs) == (7.0, "auto")


@pytest.mark.parametrize(
    "teacher, student", [("resnet20", "resnet56"), ("vit", "resnet8x4"), (None, 3)]
)
def test_another_pair_is_refused_with_the_list(teacher, student):
    with pytest.raises(ValueError) as error:
        DKD.for_pair(teacher, student)
    message = str(error.value)
    assert "`DKD.for_pair`" in message and "`DKD(beta=…)`" in message
    assert f"{teacher} → {student}" in message
    assert all(f"{t} → {s}" in message for t, s in TABLE)
    assert message.count("→") == 12
