"""Constructor arguments: validation, and the configuration that restores them.

Every `check_` function returns the validated value and raises a `ValueError` that names
the class or function (`caller`), the argument, the rule and the value that was passed.
"""

import inspect
import math
import numbers

import keras


def check_number(caller, name, value):
    """Checks for a finite real number, which `bool` is not."""
    if not is_finite_number(value):
        _raise(caller, name, value, "must be a finite number")
    return value


def check_in_range(caller, name, value, low, high=math.inf, inclusive=False):
    """Checks for a finite number between two bounds, or the bounds if `inclusive`."""
    if high == math.inf:
        rule = f"of at least {low}" if inclusive else f"above {low}"
    else:
        rule = f"from {low} to {high}" if inclusive else f"between {low} and {high}"
    outside = not is_finite_number(value) or not low <= value <= high
    if outside or (not inclusive and value in (low, high)):
        _raise(caller, name, value, f"must be a finite number {rule}")
    return value


def check_positive_int(caller, name, value):
    """Checks for an integer of at least 1, of NumPy too. Returns an `int`."""
    if not _is_positive_int(value):
        _raise(caller, name, value, "must be an integer of at least 1")
    return int(value)


def check_positive_ints(caller, name, value, count):
    """Checks for a list or tuple of `count` integers of at least 1. Returns a tuple."""
    items = value if isinstance(value, list | tuple) else ()
    if len(items) != count or not all(map(_is_positive_int, items)):
        _raise(caller, name, value, f"must be {count} integers of at least 1")
    return tuple(map(int, items))


def check_choice(caller, name, value, choices):
    """Checks for one of `choices`, which the message lists."""
    # By type too: 0 and 1 equal `False` and `True`.
    if not any(value is c or (type(value) is type(c) and value == c) for c in choices):
        _raise(caller, name, value, f"must be one of {', '.join(map(repr, choices))}")
    return value


def is_finite_number(value):
    """Whether this is a real number, no boolean, and neither NaN nor infinite."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _is_positive_int(value):
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return is_integer and int(value) >= 1


def _raise(caller, name, value, rule):
    raise ValueError(f"`{caller}`: `{name}` {rule}. Received: {name}={value!r}.")


def name_arguments(method, skip, args, kwargs):
    """`kwargs`, and with them the positional `args` after the first `skip` by name.

    Raises `TypeError` for too many of them, and for one that is given twice.
    """
    signature = inspect.signature(method)
    names = [*signature.parameters][skip:]
    named = dict(zip(names, args, strict=False))
    if len(args) > len(names) or named.keys() & kwargs:
        # Names that are not known may have their own error later.
        signature.bind(
            *[None] * skip, *args, **{n: kwargs[n] for n in named if n in kwargs}
        )
    return {**named, **kwargs}


def accepts_argument(function, name):
    """Whether a function takes an argument of that name, or any."""
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


def constructor_arguments(instance, base):
    """The constructor's arguments, serialized, for `get_config`.

    Each is read from the attribute of its name, and left out where there is none. Those
    of `base`, whose own `get_config` has them, are not among them. A `ValueError` for
    an argument without an attribute, of a user's class without a `get_config`.
    """
    config, has_own_config = {}, False
    for cls in type(instance).__mro__:
        if cls is base:
            break
        is_users = cls.__module__.partition(".")[0] != "keras_dtkd"
        has_own_config = has_own_config or "get_config" in vars(cls)
        if "__init__" not in vars(cls):
            continue
        spec = inspect.getfullargspec(vars(cls)["__init__"])
        for name in spec.args[1:] + spec.kwonlyargs:
            if name == "output":
                continue
            if hasattr(instance, name):
                config[name] = _serialize(getattr(instance, name))
            elif is_users and not has_own_config:
                raise ValueError(
                    f"`{cls.__name__}`: the argument `{name}` has no attribute "
                    f"`{name}`, so that `get_config` would leave it out and a loaded "
                    f"`{cls.__name__}` would have the default. Store it, "
                    f"`self.{name} = {name}`, or override `get_config`."
                )
        if spec.varkw is None:
            # It sets the arguments of its base classes itself.
            break
    return config


def _serialize(value):
    if isinstance(value, list | tuple):
        return [_serialize(item) for item in value]
    if callable(value) or hasattr(value, "get_config"):
        return keras.saving.serialize_keras_object(value)
    return value
