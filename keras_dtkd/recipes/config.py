"""Losses, temperatures and views as plain data."""

import numbers

from keras_dtkd import temperatures

# Arguments that count epochs, and their least value.
EPOCHS = {"warmup_epochs": 0.0, "epochs": 1.0}


def _is_spec(value):
    return isinstance(value, dict) and set(value) == {"class", "arguments"}


def class_of(spec, module):
    """The class that a piece of data names."""
    short = module.__name__.split(".")[-1]
    if not _is_spec(spec):
        raise ValueError(
            f"`Recipe`: one of the {short} must be a dict of 'class' and 'arguments'. "
            f"Received: {spec!r}."
        )
    found = getattr(module, str(spec["class"]), None)
    if not isinstance(found, type):
        known = sorted(n for n, v in vars(module).items() if isinstance(v, type))
        raise ValueError(
            f"`Recipe`: there is no class {spec['class']!r} in `keras_dtkd.{short}`. "
            f"Choose one of: {', '.join(known)}."
        )
    return found


def check(spec, module):
    """Refuses classes that there are not, temperatures in it too.

    Raises:
        ValueError: There is no such class, with the list of those there are.
    """
    class_of(spec, module)
    for value in spec["arguments"].values():
        for item in value if isinstance(value, list) else [value]:
            if _is_spec(item):
                check(item, temperatures)


def make(spec, module):
    """The object that a piece of data describes, temperatures in it too."""

    def made(value):
        if isinstance(value, list):
            return [made(item) for item in value]
        return make(value, temperatures) if _is_spec(value) else value

    arguments = {name: made(value) for name, value in spec["arguments"].items()}
    return class_of(spec, module)(**arguments)


def rescaled(value, scale):
    """Data with every number of epochs in it changed."""
    if isinstance(value, list):
        return [rescaled(item, scale) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: max(EPOCHS[name], scale(item))
        if name in EPOCHS and isinstance(item, numbers.Real)
        else rescaled(item, scale)
        for name, item in value.items()
    }
