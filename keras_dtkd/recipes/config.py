"""Losses, temperatures and views as plain data."""

import numbers

from keras_dtkd import temperatures

# Arguments that count epochs, and their minimum after scaling.
EPOCH_ARGUMENTS = {"warmup_epochs": 0.0, "epochs": 1.0}


def component(class_name, **arguments):
    """A loss, a temperature or a view as data: its class and its arguments."""
    return {"class": class_name, "arguments": arguments}


def _is_component(value):
    return isinstance(value, dict) and set(value) == {"class", "arguments"}


def _resolve_class(config, module):
    """The class of a module that a config names, or a `ValueError`."""
    module_name = module.__name__.split(".")[-1]
    if not _is_component(config):
        raise ValueError(
            f"`Recipe`: each of the {module_name} must be a dict with the keys 'class' "
            f"and 'arguments'. Received: {config!r}."
        )
    classes = {n: value for n, value in vars(module).items() if isinstance(value, type)}
    if config["class"] not in classes:
        raise ValueError(
            f"`Recipe`: no class {config['class']!r} in `keras_dtkd.{module_name}`. "
            f"Choose one of: {', '.join(sorted(classes))}."
        )
    return classes[config["class"]]


def validate_config(config, module):
    """Checks that a config's class exists, and those of the temperatures in it."""
    _resolve_class(config, module)
    for value in config["arguments"].values():
        for item in value if isinstance(value, list) else [value]:
            if _is_component(item):
                validate_config(item, temperatures)


def from_config(config, module):
    """Builds the object that a config describes, with the temperatures in it."""

    def build(value):
        if isinstance(value, list):
            return [build(item) for item in value]
        return from_config(value, temperatures) if _is_component(value) else value

    arguments = {name: build(value) for name, value in config["arguments"].items()}
    return _resolve_class(config, module)(**arguments)


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
