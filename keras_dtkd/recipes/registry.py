"""Recipes by name."""

import copy

from keras_dtkd.core import model_pairs
from keras_dtkd.core.user_code import is_reference, split_reference
from keras_dtkd.losses.base import snake_case
from keras_dtkd.recipes import tables
from keras_dtkd.recipes.config import component
from keras_dtkd.recipes.recipe import Recipe


def methods():
    """The names of all methods. The first is `"ce"`, the student without a teacher."""
    return list(tables.METHODS)


def pairs():
    """The pairs, `(teacher, student)`, for which the papers publish constants."""
    return list(model_pairs.PAIRS)


def baseline_for(method):
    """The baseline with the same loss weights as a method.

    A method whose loss weighs four times as much as that of KD must be compared with KD
    of that weight. Baselines are tuned to a pair as their methods are; but `"cskd"` and
    `"dist"` have weight 4 for every pair, and their baseline `"ce_4kd"` has the weight
    of DTKD for the pair.

    Returns:
        Name of the baseline; `None` for baselines, for methods with the weight of KD,
        and for unknown names.
    """
    return tables.BASELINES.get(method)


def get(method, teacher=None, student=None, data="cifar100"):
    """A method's recipe for a pair of networks.

    Args:
        method: One of `methods()`; docs/recipes.md describes them. Or a loss of your
            own: `"my.py:Squared"` is the class (or a function that makes the loss) in a
            Python file, trained by the same schedule with the task's loss beside it.
        teacher: Name of the teacher, in any spelling of the literature. Without it,
            the recipe has the constants of the authors' default pair.
        student: Name of the student, in any spelling. It determines the learning rate.
        data: Name of the data set. All recipes are published for `"cifar100"`; for
            another data set the numbers are the same, and `source` says so.

    Returns:
        A `Recipe`.

    Raises:
        ValueError: Unknown method, or both names are given and are not a pair of the
            papers. The message lists the available ones.

    Example:
    >>> recipe = recipes.get("dtkd", "resnet32x4", "resnet8x4").scaled_to(epochs=24)
    """
    is_own = is_reference(method)
    if is_own:
        name = snake_case(split_reference(method)[1])
        loss = {name: component(method)}
        fields = tables.method_entry("A loss of the user's own", **loss)
    elif method not in tables.METHODS:
        raise ValueError(
            f"`recipes.get`: unknown method {method!r}. Choose one of: "
            f"{', '.join(tables.METHODS)}; or name a loss of your own, 'my.py:Squared'."
        )
    else:
        fields = copy.deepcopy(tables.METHODS[method])
    pair = model_pairs.DEFAULT_PAIR
    is_pair = teacher is not None and student is not None
    if is_pair:
        problem = "`recipes.get`: no published recipe for"
        hint = f"`student=` alone: `recipes.get({method!r}, student={student!r})`"
        pair = model_pairs.require_pair(teacher, student, problem, hint)
        teacher, student = pair
    constants = model_pairs.PAIRS[pair]
    tuned = {} if is_own else tables.tuned_arguments(method, constants)
    for loss in fields["distillation_losses"].values():
        loss["arguments"].update(tuned)
    fields["source"] = f"{fields['source']}. {tables.SCHEDULE}."
    if tuned and not is_pair:
        default = " → ".join(pair)
        fields["source"] += f" Constants tuned to a pair are those of {default}."
    if data != "cifar100":
        fields["source"] += f" Published for cifar100, not for {data}."
    if model_pairs.normalize_model_name(student) in tables.LOW_LR_STUDENTS:
        fields["learning_rate"] = tables.LOW_LEARNING_RATE
    return Recipe(
        **{**tables.CIFAR100, **fields},
        method=method,
        data=data,
        teacher=None if method == "ce" else teacher,
        student=student,
    )
