"""The factor of DKD's non-target term in the authors' CIFAR-100 experiments."""

from keras_dtkd.core.model_pairs import lookup_pair

# (teacher, student): beta. Source: the configurations in the authors' repository,
# megvii-research/mdistiller; alpha is 1 and the temperature 4 in all of them.
PAIRS = {
    ("resnet56", "resnet20"): 2.0,
    ("resnet110", "resnet32"): 2.0,
    ("resnet32x4", "resnet8x4"): 8.0,
    ("wrn_40_2", "wrn_16_2"): 6.0,
    ("wrn_40_2", "wrn_40_1"): 6.0,
    ("vgg13", "vgg8"): 6.0,
    ("resnet32x4", "shufflev1"): 8.0,
    ("resnet32x4", "shufflev2"): 8.0,
    ("wrn_40_2", "shufflev1"): 8.0,
    ("vgg13", "mobilenetv2"): 6.0,
    ("resnet50", "mobilenetv2"): 8.0,
}


def constants(teacher, student):
    """The factor of one pair.

    Args:
        teacher: Name, in any case, with or without underscores.
        student: Likewise.

    Returns:
        `beta`.

    Raises:
        ValueError: No such pair.
    """
    return lookup_pair(PAIRS, teacher, student, "DKD", "DKD(beta=…)")
