"""Validation of constructor arguments.

Every function returns the validated value and raises a `ValueError` that names the
class, the argument, the rule and the value that was passed.
"""

import math
import numbers


def check_number(caller, name, value):
    """Checks that a value is a finite real number. `bool` is not a number here.

    Args:
        caller: Name of the class or function whose argument it is.
        name: Name of the argument.
        value: Value of the argument.

    Returns:
        `value`.

    Raises:
        ValueError: `value` is not a finite number.
    """
    if not _is_finite_number(value):
        _raise(caller, name, value, "must be a finite number")
    return value


def check_minimum(caller, name, value, minimum):
    """Checks that a value is a finite number of at least `minimum`.

    Args:
        caller: See `check_number`.
        name: See `check_number`.
        value: See `check_number`.
        minimum: Smallest allowed number.

    Returns:
        `value`.

    Raises:
        ValueError: `value` is not such a number.
    """
    if not _is_finite_number(value) or value < minimum:
        _raise(caller, name, value, f"must be a finite number of at least {minimum}")
    return value


def check_in_range(caller, name, value, low, high, inclusive=False):
    """Checks that a value is a number between two bounds.

    Args:
        caller: See `check_number`.
        name: See `check_number`.
        value: See `check_number`.
        low: Lower bound.
        high: Upper bound. Infinity for none.
        inclusive: Whether the bounds themselves are allowed.

    Returns:
        `value`.

    Raises:
        ValueError: `value` is not such a number.
    """
    valid = _is_finite_number(value)
    if inclusive:
        valid, rule = valid and low <= value <= high, f"from {low} to {high}"
    else:
        valid, rule = valid and low < value < high, f"between {low} and {high}"
    if high == math.inf:
        rule = f"of at least {low}" if inclusive else f"above {low}"
    if not valid:
        _raise(caller, name, value, f"must be a finite number {rule}")
    return value


def check_positive_int(caller, name, value):
    """Checks that a value is an integer of at least 1.

    Args:
        caller: See `check_number`.
        name: See `check_number`.
        value: See `check_number`. NumPy integers are allowed, `bool` is not.

    Returns:
        `value` as an `int`.

    Raises:
        ValueError: `value` is not such an integer.
    """
    if not _is_positive_int(value):
        _raise(caller, name, value, "must be an integer of at least 1")
    return int(value)


def check_positive_ints(caller, name, value, count):
    """Checks that a value is a list or tuple of integers of at least 1.

    Args:
        caller: See `check_number`.
        name: See `check_number`.
        value: See `check_number`.
        count: Required length.

    Returns:
        A tuple of `int`.

    Raises:
        ValueError: `value` is not such a list or tuple.
    """
    items = value if isinstance(value, list | tuple) else ()
    if len(items) != count or not all(map(_is_positive_int, items)):
        _raise(caller, name, value, f"must be {count} integers of at least 1")
    return tuple(map(int, items))


def check_choice(caller, name, value, choices):
    """Checks that a value is one of a few.

    Args:
        caller: See `check_number`.
        name: See `check_number`.
        value: See `check_number`.
        choices: The allowed values.

    Returns:
        `value`.

    Raises:
        ValueError: `value` is not among `choices`, which the message lists.
    """
    # By type too: 0 and 1 equal `False` and `True`.
    if not any(value is c or (type(value) is type(c) and value == c) for c in choices):
        _raise(caller, name, value, f"must be one of {', '.join(map(repr, choices))}")
    return value


def _is_finite_number(value):
    return (
        isinstance(value, numbers.Real)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def _is_positive_int(value):
    return (
        isinstance(value, numbers.Integral)
        and not isinstance(value, bool)
        and int(value) >= 1
    )


def _raise(caller, name, value, rule):
    raise ValueError(f"`{caller}`: `{name}` {rule}. Received: {name}={value!r}.")
