"""Classes and functions in a Python file of the user's: `my.py:Squared`."""

import importlib.util
import re
import sys
from pathlib import Path

from keras_dtkd.core.atomic_io import compute_file_digest


def is_reference(text):
    """Whether a name is that of something in a file, `path/to/file.py:name`."""
    return re.fullmatch(r".+\.py:[A-Za-z_]\w*", str(text)) is not None


def split_reference(text):
    """The file, and the name in it."""
    path, _, name = text.rpartition(":")
    return Path(path), name


def load_reference(text):
    """What a reference names. Its file is run once in a process.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It fails, or has nothing of that name that can be called.
    """
    path, name = split_reference(text)
    if not path.is_file():
        raise FileNotFoundError(f"{text}: there is no file {path}.")
    module_name = f"keras_dtkd_user_{compute_digest(text)[:16]}"
    module = sys.modules.get(module_name)
    if module is None:
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[module_name]
            raise ValueError(
                f"{text}: {path} fails when it is imported: "
                f"{type(error).__name__}: {error}"
            ) from error
    found = getattr(module, name, None)
    if not callable(found):
        own = [n for n, v in vars(module).items() if _is_own(v, module_name)]
        raise ValueError(
            f"{text}: {path} has no class or function {name!r}. It has: "
            f"{', '.join(own) or 'none'}."
        )
    return found


def compute_digest(text):
    """A digest of the file that a reference names, 32 hexadecimal digits."""
    return compute_file_digest(split_reference(text)[0])


def to_file_name(text):
    """A reference as part of a path: `my-Squared`. Other names as they are."""
    if not is_reference(text):
        return text
    path, name = split_reference(text)
    return f"{path.stem}-{name}"


def _is_own(value, module_name):
    return callable(value) and getattr(value, "__module__", None) == module_name
