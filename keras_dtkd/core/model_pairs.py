"""The teacher-student pairs of the literature, and each method's constants for them."""

import re
from typing import NamedTuple


class PairConstants(NamedTuple):
    """What the papers tune to a pair of CIFAR-100 networks.

    Attributes:
        dtkd_alpha: Weight of DTKD's term at dynamic temperatures.
        dtkd_beta: Weight of DTKD's term at the constant temperature.
        dkd_beta: Weight of DKD's non-target term. Its other weight is 1, its
            temperature 4, for all pairs.
        ls_temperature: Temperature of logit standardization.
        ls_weight: Weight of the loss under logit standardization.
    """

    dtkd_alpha: float
    dtkd_beta: float
    dkd_beta: float
    ls_temperature: float = 2.0
    ls_weight: float = 9.0


# Sources. DTKD: configurations of JinYu1998/DTKD; a pair without values of its own has
# the default (3, 1). DKD: configurations of megvii-research/mdistiller. Logit
# standardization: names of the log files of sunshangquan/logit-standardization-KD; a
# pair without such a file has the defaults of that code.
PAIRS = {
    ("resnet56", "resnet20"): PairConstants(1.0, 0.5, 2.0),
    ("resnet110", "resnet32"): PairConstants(1.0, 0.5, 2.0),
    ("resnet32x4", "resnet8x4"): PairConstants(3.0, 1.0, 8.0),
    ("wrn_40_2", "wrn_16_2"): PairConstants(3.0, 1.0, 6.0),
    ("wrn_40_2", "wrn_40_1"): PairConstants(1.0, 0.5, 6.0),
    ("vgg13", "vgg8"): PairConstants(3.0, 1.0, 6.0, 3.0, 9.0),
    ("resnet32x4", "shufflev1"): PairConstants(3.0, 1.0, 8.0),
    ("resnet32x4", "shufflev2"): PairConstants(3.0, 1.0, 8.0),
    ("wrn_40_2", "shufflev1"): PairConstants(2.0, 0.5, 8.0),
    ("vgg13", "mobilenetv2"): PairConstants(3.0, 1.0, 6.0),
    ("resnet50", "mobilenetv2"): PairConstants(3.0, 2.0, 8.0, 3.0, 1.0),
}
# The pair of the default constants in the authors' code.
DEFAULT_PAIR = ("resnet32x4", "resnet8x4")

ABBREVIATIONS = {
    r"^res(?=\d)": "resnet",
    r"^(shufflenet|shu)(?=v)": "shuffle",
    r"^mv2$": "mobilenetv2",
}


def normalize_model_name(name):
    """One spelling, of lowercase letters and digits, for all spellings of a name."""
    normalized = re.sub(r"[^a-z0-9]", "", str(name).lower())
    for abbreviation, full in ABBREVIATIONS.items():
        normalized = re.sub(abbreviation, full, normalized)
    return normalized


def match_pair(teacher, student):
    """The key of `PAIRS` for two names in any spelling, or `None`."""
    names = [normalize_model_name(name) for name in (teacher, student)]
    matches = (pair for pair in PAIRS if [*map(normalize_model_name, pair)] == names)
    return next(matches, None)


def require_pair(teacher, student, problem, hint):
    """The key of `PAIRS` for two names, or a `ValueError` that lists the pairs.

    The message begins with `problem` and recommends `hint` for other pairs.
    """
    pair = match_pair(teacher, student)
    if pair is None:
        names = ", ".join(" → ".join(pair) for pair in PAIRS)
        raise ValueError(
            f"{problem} {teacher} → {student}. Available pairs: {names}. For another "
            f"pair use {hint}."
        )
    return pair


def pair_constants(teacher, student, loss, hint):
    """The `PairConstants` of a pair, for the `for_pair` of the class named `loss`."""
    problem = f"`{loss}.for_pair`: no published constants for"
    return PAIRS[require_pair(teacher, student, problem, f"`{hint}`")]
