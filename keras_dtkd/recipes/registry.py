"""Recipes by name."""

import copy

from keras_dtkd.core.model_pairs import match_pair
from keras_dtkd.recipes import tables as tables
from keras_dtkd.recipes.recipe import Recipe


def methods():
    """The names of all methods.

    Returns:
        A list, `"ce"` (the student alone) first.
    """
    return list(tables.METHODS)


def pairs():
    """The pairs of networks that the papers give constants for.

    Returns:
        A list of `(teacher, student)`.
    """
    return list(tables.PAIRS)


def baseline_for(method):
    """The method of equal weight that must stand beside a method in a table.

    A method that weighs its loss four times as much as KD proves nothing beside KD. The
    controls are tuned to a pair as their methods are; but `"cskd"` and `"dist"` weigh 4
    for every pair, and `"ce_4kd"` what DTKD weighs for it.

    Args:
        method: A name.

    Returns:
        The control's name; `None` for controls themselves, for methods of KD's own
        weight, and for names that are not known.
    """
    return tables.CONTROLS.get(method)


def get(method, teacher=None, student=None, data="cifar100"):
    """A method's recipe for a pair of networks.

    Args:
        method: One of `methods()`; docs/recipes.md says what each is.
        teacher: Name of the teacher, in any of the spellings of the literature.
            Without it the recipe has the constants of the authors' default.
        student: Name of the student, likewise. It decides the learning rate.
        data: Name of the data set. All recipes are made for `"cifar100"`; for another
            the numbers are the same, and `source` says so.

    Returns:
        A `Recipe`.

    Raises:
        ValueError: No such method, or both names are given and are no pair of the
            papers, with the list of those there are.

    Example:

    >>> recipe = recipes.get("dtkd", "resnet32x4", "resnet8x4").scaled(epochs=24)
    """
    if method not in tables.METHODS:
        raise ValueError(
            f"`recipes.get`: there is no method {method!r}. Choose one of: "
            f"{', '.join(tables.METHODS)}."
        )
    fields = copy.deepcopy(tables.METHODS[method])
    pair = _pair(method, teacher, student)
    if pair is not None:
        teacher, student = pair
    tuned = tables.of_pair(method, pair or tables.DEFAULT_PAIR)
    for loss in fields["distillation_losses"].values():
        loss["arguments"].update(tuned)
    fields["source"] = f"{fields['source']}. {tables.SCHEDULE}."
    if tuned and pair is None:
        default = " → ".join(tables.DEFAULT_PAIR)
        fields["source"] += f" What is tuned to a pair is that of {default}."
    if data != "cifar100":
        fields["source"] += f" Made for cifar100, and not for {data}."
    rate = tables.learning_rate(student)
    return Recipe(
        **{**tables.CIFAR100, "learning_rate": rate, **fields},
        method=method,
        data=data,
        teacher=None if method == "ce" else teacher,
        student=student,
    )


def _pair(method, teacher, student):
    """The pair as the tables spell it, or `None` where one of the two is missing."""
    if teacher is None or student is None:
        return None
    pair = match_pair(tables.PAIRS, teacher, student)
    if pair is not None:
        return pair
    names = ", ".join(f"{t} → {s}" for t, s in tables.PAIRS)
    raise ValueError(
        f"`recipes.get`: the papers have no recipe for {teacher} → {student}. Their "
        f"pairs: {names}. For another pair give `student=` alone: "
        f"`recipes.get({method!r}, student={student!r})`."
    )
