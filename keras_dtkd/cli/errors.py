"""What cannot be done is said in one sentence, before anything starts."""

import contextlib


class UserError(Exception):
    """What was asked cannot be done. The message is for the user."""


@contextlib.contextmanager
def as_user_error():
    """A context in which the library's errors are the user's, not this program's."""
    try:
        yield
    except (ValueError, FileNotFoundError, ImportError) as error:
        raise UserError(str(error)) from error
