"""What callbacks hold from epoch to epoch: counters, best values, best weights."""

import collections
import inspect
import json

import numpy as np

VALUES, ARRAYS = "callbacks", "callback_arrays"
# TensorFlow's variables without axes give scalars.
ARRAY = np.ndarray | np.generic


def collect_states(callbacks):
    """The public attributes of callbacks: plain values, lists of arrays or strings.

    Not the arguments of their constructors: those are settings.

    Returns:
        A dict of dicts, by the name of the class with a number and by attribute.
    """
    return {
        key: {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in vars(callback).items()
            if _is_state(callback, name, value)
        }
        for key, callback in _by_key(callbacks).items()
    }


def restore_states(callbacks, states):
    """Sets the attributes that `collect_states` gave of callbacks of these classes."""
    for key, callback in _by_key(callbacks).items():
        for name, value in states.get(key, {}).items():
            setattr(callback, name, value)


def select_changed(now, before, restored):
    """Of the states `now`, what differs from `before`, and what had been restored."""

    def has_changed(key, name, value):
        old = before.get(key, {})
        if name not in old or name in restored.get(key, {}):
            return True
        return _is_list_of(ARRAY, value) or value != old[name]

    return {
        key: {n: value for n, value in values.items() if has_changed(key, n, value)}
        for key, values in now.items()
    }


def write_states(file, states):
    """Writes states into an open HDF5 file."""
    plain: dict = {}
    for key, values in states.items():
        plain[key] = {}
        for name, value in values.items():
            if not _is_list_of(ARRAY, value):
                plain[key][name] = value
                continue
            for i, array in enumerate(value):
                # HDF5 knows no bfloat16.
                is_known = array.dtype.kind in "biufc"
                array = array if is_known else array.astype("float32")
                file[f"{ARRAYS}/{key}/{name}/{i}"] = array
    file[VALUES] = json.dumps(plain)


def read_states(file):
    """What `write_states` wrote; empty for a file of an earlier version."""
    if VALUES not in file:
        return {}
    states = json.loads(file[VALUES].asstr()[()])
    for key, attributes in file.get(ARRAYS, {}).items():
        for name, arrays in attributes.items():
            in_order = (arrays[str(i)][()] for i in range(len(arrays)))
            # A dataset without axes gives a scalar.
            states[key][name] = [np.asarray(array) for array in in_order]
    return states


def _by_key(callbacks):
    """Callbacks by the name of their class and their place among those of it."""
    counts: collections.Counter = collections.Counter()
    found = {}
    for callback in callbacks:
        name = type(callback).__name__
        found[f"{name}_{counts[name]}"] = callback
        counts[name] += 1
    return found


def _is_state(callback, name, value):
    if name.startswith("_") or name in _constructor_arguments(type(callback)):
        return False
    # `CSVLogger` has the names of its columns: the first epoch of a resumed run may not
    # log all of them.
    if _is_list_of(ARRAY, value) or _is_list_of(str, value):
        return True
    return value is None or isinstance(value, bool | int | float | str | np.number)


def _is_list_of(kind, value):
    is_list = isinstance(value, list) and len(value) > 0
    return is_list and all(isinstance(item, kind) for item in value)


def _constructor_arguments(cls):
    # Of base classes too: Keras changes the sign of `min_delta` in its first epoch.
    inits = [vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)]
    return {name for init in inits for name in inspect.signature(init).parameters}
