"""The factors of DTKD's two terms in the authors' CIFAR-100 experiments."""

from keras_dtkd.core.model_pairs import lookup_pair

# (teacher, student): (alpha, beta). Source: the configurations in the authors'
# repository, JinYu1998/DTKD; a pair without its own value has the default (3, 1).
PAIRS = {
    ("resnet56", "resnet20"): (1.0, 0.5),
    ("resnet110", "resnet32"): (1.0, 0.5),
    ("resnet32x4", "resnet8x4"): (3.0, 1.0),
    ("wrn_40_2", "wrn_16_2"): (3.0, 1.0),
    ("wrn_40_2", "wrn_40_1"): (1.0, 0.5),
    ("vgg13", "vgg8"): (3.0, 1.0),
    ("resnet32x4", "shufflev1"): (3.0, 1.0),
    ("resnet32x4", "shufflev2"): (3.0, 1.0),
    ("wrn_40_2", "shufflev1"): (2.0, 0.5),
    ("vgg13", "mobilenetv2"): (3.0, 1.0),
    ("resnet50", "mobilenetv2"): (3.0, 2.0),
}


def constants(teacher, student):
    """The factors of one pair.

    Args:
        teacher: Name, in any case, with or without underscores.
        student: Likewise.

    Returns:
        `(alpha, beta)`.

    Raises:
        ValueError: No such pair.
    """
    return lookup_pair(
        PAIRS, teacher, student, "DTKD", "DTKD.published(alpha=…, beta=…)"
    )
