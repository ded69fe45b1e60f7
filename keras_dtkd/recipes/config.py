"""Losses, temperatures and views as plain data."""

import numbers

from keras_dtkd import temperatures
from keras_dtkd.core.user_code import is_reference, load_reference

# Arguments that count epochs, and their minimum after scaling.
EPOCH_ARGUMENTS = {"warmup_epochs": 0.0, "epochs": 1.0}


def component(class_name, **arguments):
    """A loss, a temperature or a view as data: its class and its arguments."""
    return {"class": class_name, "arguments": arguments}


def _is_component(value):
    return isinstance(value, dict) and set(value) == {"class", "arguments"}


def from_config(config, module, only_validate=False):
    """Builds the object of a module that a config describes, with its temperatures.

    Raises a `ValueError` for an unknown class; with `only_validate` it builds nothing.
    """
    module_name = module.__name__.split(".")[-1]
    if not _is_component(config):
        raise ValueError(
            f"`Recipe`: each of the {module_name} must be a dict with the keys 'class' "
            f"and 'arguments'. Received: {config!r}."
        )
    classes = {n: value for n, value in vars(module).items() if isinstance(value, type)}
    if is_reference(config["class"]):
        classes[config["class"]] = load_reference(config["class"])
    elif config["class"] not in classes:
        raise ValueError(
            f"`Recipe`: no class {config['class']!r} in `keras_dtkd.{module_name}`. "
            f"Choose one of: {', '.join(sorted(classes))}; or name one of your own, "
            "'my.py:Squared'."
        )

    def build(value):
        if isinstance(value, list):
            return [build(item) for item in value]
        is_nested = _is_component(value)
        return from_config(value, temperatures, only_validate) if is_nested else value

    arguments = {name: build(value) for name, value in config["arguments"].items()}
    return None if only_validate else classes[config["class"]](**arguments)


def rescale_epochs(value, scale):
    """A copy of nested data with every number of epochs changed by a function."""
    if isinstance(value, list):
        return [rescale_epochs(item, scale) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: max(EPOCH_ARGUMENTS[name], scale(item))
        if name in EPOCH_ARGUMENTS and isinstance(item, numbers.Real)
        else rescale_epochs(item, scale)
        for name, item in value.items()
    }
