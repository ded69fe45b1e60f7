"""Losses, temperatures and views as plain data, and validation of a recipe's fields."""

import math
import numbers

from keras_dtkd import losses, temperatures, views

# Arguments that count epochs, and their minimum after scaling.
EPOCH_ARGUMENTS = {"warmup_epochs": 0.0, "epochs": 1.0}


def component(class_name, **arguments):
    """A loss, a temperature or a view as data: its class and its arguments."""
    return {"class": class_name, "arguments": arguments}


def _is_component(value):
    return isinstance(value, dict) and set(value) == {"class", "arguments"}


def resolve_class(config, module):
    """The class that a config names.

    Args:
        config: `{"class": ..., "arguments": {...}}`.
        module: `keras_dtkd.losses`, `temperatures` or `views`.

    Raises:
        ValueError: `config` has another form, or the module has no such class.
    """
    module_name = module.__name__.split(".")[-1]
    if not _is_component(config):
        raise ValueError(
            f"`Recipe`: each of the {module_name} must be a dict with the keys 'class' "
            f"and 'arguments'. Received: {config!r}."
        )
    cls = getattr(module, str(config["class"]), None)
    if not isinstance(cls, type):
        names = sorted(n for n, v in vars(module).items() if isinstance(v, type))
        raise ValueError(
            f"`Recipe`: no class {config['class']!r} in `keras_dtkd.{module_name}`. "
            f"Choose one of: {', '.join(names)}."
        )
    return cls


def validate_config(config, module):
    """Checks that a config's class exists, and those of the temperatures in it.

    Args:
        config: `{"class": ..., "arguments": {...}}`.
        module: Module of the class.

    Raises:
        ValueError: No such class; the message lists the available ones.
    """
    resolve_class(config, module)
    for value in config["arguments"].values():
        for item in value if isinstance(value, list) else [value]:
            if _is_component(item):
                validate_config(item, temperatures)


def from_config(config, module):
    """Builds the object that a config describes, with the temperatures in it.

    Args:
        config: `{"class": ..., "arguments": {...}}`.
        module: Module of the class.

    Returns:
        An instance of the class.
    """

    def build(value):
        if isinstance(value, list):
            return [build(item) for item in value]
        return from_config(value, temperatures) if _is_component(value) else value

    arguments = {name: build(value) for name, value in config["arguments"].items()}
    return resolve_class(config, module)(**arguments)


def rescale_epochs(value, scale):
    """A copy of nested data with every number of epochs rescaled.

    Args:
        value: Dicts, lists and plain values.
        scale: Function from a number of epochs to another.
    """
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


def validate_recipe(recipe):
    """Validates the fields of a `Recipe`.

    Raises:
        ValueError: A number out of range, or an unknown class.
    """
    for name in ("epochs", "batch_size"):
        check_positive_int(name, getattr(recipe, name))
    for name in ("learning_rate", "lr_decay_factor"):
        value = getattr(recipe, name)
        if not _is_finite(value) or value <= 0:
            _raise(name, "a number above 0", value)
    for name in ("momentum", "weight_decay", "task_weight"):
        value = getattr(recipe, name)
        if not _is_finite(value) or value < 0:
            _raise(name, "a number of at least 0", value)
    if recipe.momentum > 1:
        _raise("momentum", "at most 1", recipe.momentum)
    for epoch in recipe.milestones:
        check_positive_int("milestones", epoch)
    if list(recipe.milestones) != sorted(recipe.milestones):
        _raise("milestones", "in ascending order", recipe.milestones)
    for name, module in (("distillation_losses", losses), ("views", views)):
        for config in getattr(recipe, name).values():
            validate_config(config, module)
    if not recipe.distillation_losses and recipe.task_weight != 1:
        raise ValueError(
            "`Recipe`: without distillation losses the student trains without a "
            "teacher, and `task_weight` must be 1. Received: "
            f"task_weight={recipe.task_weight!r}."
        )
    pruning = recipe.pruning
    if pruning is not None and set(pruning) != {"rate", "weight"}:
        _raise("pruning", "None or a dict with the keys 'rate' and 'weight'", pruning)


def check_positive_int(name, value):
    """Checks that a value is an integer of at least 1.

    Raises:
        ValueError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        _raise(name, "an integer of at least 1", value)


def _is_finite(value):
    return isinstance(value, numbers.Real) and math.isfinite(value)


def _raise(name, requirement, value):
    raise ValueError(
        f"`Recipe`: `{name}` must be {requirement}. Received: {name}={value!r}."
    )
