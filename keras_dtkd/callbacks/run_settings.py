"""The settings of a run, for comparison with those of a state in a file."""

import json
import textwrap
import warnings

import keras

from keras_dtkd.core.hyperparameters import HyperparameterMixin

# Keras numbers names; random states are in the file of the weights; the rest repeats
# the class, or depends on the data.
IGNORED = {
    *("name", "seed", "dtype", "module", "registered_name", "shared_object_id"),
    *("build_config", "compile_config"),
}
MAX_LISTED, MAX_LENGTH = 6, 60


def collect_settings(model):
    """What the parts of a Distiller, its optimizer and its numbers are set to.

    Returns:
        A dict of plain values by dotted names, `{"kd.temperature.temperature": 4.0}`.
        Of an object there is the name of its class. What cannot be serialized is left
        out.
    """
    settings: dict = {}
    names = getattr(model, "fixed_settings", ())
    numbers = _collect_numbers(model) | {name: getattr(model, name) for name in names}
    _flatten("", numbers, settings)
    parts = dict(getattr(model, "distillation_losses", {}))
    for name, view in getattr(model, "views", {}).items():
        parts[f"views.{name}"] = view
    parts["rollout"] = getattr(model, "rollout", None)
    parts["optimizer"] = model.optimizer
    for name, part in parts.items():
        try:
            with warnings.catch_warnings():
                # Of lambdas in files: it goes into none.
                warnings.simplefilter("ignore")
                config = keras.saving.serialize_keras_object(part)
        except (NotImplementedError, TypeError, ValueError):
            # A class of the user's own, which has no need to be saved.
            config = {
                "class_name": type(part).__name__,
                "config": _collect_numbers(part),
            }
        _flatten(name, config, settings)
    # As they are when they were read from a file.
    return json.loads(json.dumps(settings, default=lambda value: type(value).__name__))


def describe_differences(before, now):
    """`"kd.weight was 1.0 and is 0.5; ..."`, or an empty string.

    Args:
        before: A list of settings: a value may be as in any of them.
        now: The settings that are compared. A name that `before` lacks is left out: the
            file may be of another version.
    """
    unlike = [
        name
        for name, value in now.items()
        if name in before[0] and all(value != old.get(name) for old in before)
    ]
    # Not what a part of another class is set to.
    outer = [n for n in unlike if not any(n.startswith(f"{o}.") for o in unlike)]
    lines = [
        f"{name} was {_shorten(before[0][name])} and is {_shorten(now[name])}"
        for name in outer[:MAX_LISTED]
    ]
    if more := len(outer) - MAX_LISTED:
        lines += [f"{more} more"] if more > 0 else []
    return "; ".join(lines)


def _collect_numbers(part):
    """The numbers of a loss or the like that can be changed, and of its temperature."""
    if not isinstance(part, HyperparameterMixin):
        return {}
    numbers = {name: getattr(part, name) for name in part.hyperparameter_names()}
    inner = _collect_numbers(getattr(part, "temperature", None))
    return {**numbers, "temperature": inner} if inner else numbers


def _flatten(name, value, settings):
    if isinstance(value, dict) and "class_name" in value:
        settings[name] = value["class_name"]
        config = value.get("config")
        if value["class_name"] == "function":
            settings[name] = config
        # The bytes of a lambda depend on its place in the user's file.
        if isinstance(config, dict) and value["class_name"] != "__lambda__":
            _flatten(name, config, settings)
    elif isinstance(value, dict):
        for key, part in value.items():
            if key not in IGNORED:
                _flatten(f"{name}.{key}" if name else str(key), part, settings)
    elif isinstance(value, list | tuple) and any(isinstance(v, dict) for v in value):
        _flatten(name, {str(i): part for i, part in enumerate(value)}, settings)
    else:
        settings[name] = value


def _shorten(value):
    return textwrap.shorten(repr(value), MAX_LENGTH, placeholder=" ...")
