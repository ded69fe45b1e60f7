"""What no recipe may hold."""

import math
import numbers

from keras_dtkd import losses, views
from keras_dtkd.recipes.config import check


def numbers_and_classes(recipe):
    """Refuses numbers out of range and classes that there are not.

    Raises:
        ValueError: One of them.
    """
    for name in ("epochs", "batch_size"):
        whole(name, getattr(recipe, name))
    for name in ("learning_rate", "factor"):
        value = getattr(recipe, name)
        if not _finite(value) or value <= 0:
            _refuse(name, "a number above 0", value)
    for name in ("momentum", "weight_decay", "task_weight"):
        value = getattr(recipe, name)
        if not _finite(value) or value < 0:
            _refuse(name, "a number of at least 0", value)
    if recipe.momentum > 1:
        _refuse("momentum", "at most 1", recipe.momentum)
    for epoch in recipe.milestones:
        whole("milestones", epoch)
    if list(recipe.milestones) != sorted(recipe.milestones):
        _refuse("milestones", "in order", recipe.milestones)
    for name, module in (("distillation_losses", losses), ("views", views)):
        for spec in getattr(recipe, name).values():
            check(spec, module)
    if not recipe.distillation_losses and recipe.task_weight != 1:
        raise ValueError(
            "`Recipe`: without distillation losses the student trains alone, and "
            f"`task_weight` must be 1. Received: task_weight={recipe.task_weight!r}."
        )
    pruning = recipe.pruning
    if pruning is not None and set(pruning) != {"rate", "weight"}:
        _refuse("pruning", "None or have a 'rate' and a 'weight'", pruning)


def whole(name, value):
    """Refuses all but whole numbers of at least 1.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        _refuse(name, "a whole number of at least 1", value)


def _finite(value):
    return isinstance(value, numbers.Real) and math.isfinite(value)


def _refuse(name, rule, value):
    raise ValueError(f"`Recipe`: `{name}` must be {rule}. Received: {name}={value!r}.")
