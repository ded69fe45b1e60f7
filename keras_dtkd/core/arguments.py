"""Numbers that a rule is made with, checked."""

import math
import numbers


def check_in_range(who, name, value, low, high):
    """A number between two others.

    Args:
        who: The class that speaks.
        name: Of the argument.
        value: What was given.
        low: Greatest number that is too small.
        high: Least number that is too great. Infinity for none.

    Returns:
        The value.

    Raises:
        ValueError: It is no number between them.
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not low < value < high:
        rule = f"between {low} and {high}" if high < math.inf else f"above {low}"
        raise ValueError(
            f"`{who}`: `{name}` must be a finite number {rule}. Received: "
            f"{name}={value!r}."
        )
    return value


def check_positive_int(who, name, value):
    """An integer of at least 1.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"`{who}`: `{name}` must be an integer of at least 1. Received: "
            f"{name}={value!r}."
        )
    return value
