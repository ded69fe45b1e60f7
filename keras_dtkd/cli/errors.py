"""Errors of the user: one sentence on stderr, before anything starts."""

import contextlib


class UserError(Exception):
    """The command cannot be executed. The message is for the user."""


@contextlib.contextmanager
def as_user_error():
    """A context in which the library's errors become `UserError`s."""
    try:
        yield
    except (ValueError, FileNotFoundError, ImportError) as error:
        raise UserError(str(error)) from error
