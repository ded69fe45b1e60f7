"""Errors of the user: one sentence on stderr, before anything starts."""

import contextlib
import importlib


class UserError(Exception):
    """The command cannot be executed. The message is for the user."""


@contextlib.contextmanager
def as_user_error():
    """A context in which the library's errors become `UserError`s."""
    try:
        yield
    except (ValueError, FileNotFoundError, ImportError) as error:
        raise UserError(str(error)) from error


def import_extra(name):
    """Imports a package of the `cli` extra; `UserError` if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(
            f"`{name}` is not installed: pip install {name.split('.')[0]}"
        ) from None
