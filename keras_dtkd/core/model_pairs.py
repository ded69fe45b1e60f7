"""Constants by teacher and student, whose names papers write in many ways."""

import re

ABBREVIATIONS = {
    r"^res(?=\d)": "resnet",
    r"^(shufflenet|shu)(?=v)": "shuffle",
    r"^mv2$": "mobilenetv2",
}


def normalize_model_name(name):
    """A network's name as all papers could have written it.

    Args:
        name: In any case, with or without underscores, shortened or not.

    Returns:
        Small letters and digits.
    """
    letters = re.sub(r"[^a-z0-9]", "", str(name).lower())
    for short, long in ABBREVIATIONS.items():
        letters = re.sub(short, long, letters)
    return letters


def match_pair(pairs, teacher, student):
    """The pair as a table spells it.

    Args:
        pairs: `(teacher, student)`, several.
        teacher: Name, see `plain`.
        student: Likewise.

    Returns:
        One of `pairs`, or `None`.
    """
    wanted = (normalize_model_name(teacher), normalize_model_name(student))
    return next(
        (p for p in pairs if tuple(map(normalize_model_name, p)) == wanted), None
    )


def lookup_pair(pairs, teacher, student, method, otherwise):
    """What a table holds for one pair.

    Args:
        pairs: A dict of `(teacher, student)`.
        teacher: Name, see `plain`.
        student: Likewise.
        method: The class whose `for_pair` asks.
        otherwise: What to write for another pair.

    Returns:
        The value of the pair.

    Raises:
        ValueError: No such pair, with the list of those there are.
    """
    pair = match_pair(pairs, teacher, student)
    if pair is not None:
        return pairs[pair]
    names = ", ".join(f"{t} → {s}" for t, s in pairs)
    raise ValueError(
        f"`{method}.for_pair`: the authors give no constants for {teacher} → "
        f"{student}. Their pairs: {names}. For another pair use `{otherwise}`."
    )
