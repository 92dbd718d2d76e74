"""Errors that a user can fix."""


class InputError(Exception):
    """A config, file, label or checkpoint that cannot be used.

    The message has the form `thing: what is wrong; what to do`.
    """


def one_line(error: InputError) -> InputError:
    """Return the error of a loader process without the traceback that torch puts before it."""
    _, found, message = str(error).rpartition(f"{InputError.__module__}.{InputError.__qualname__}: ")
    return InputError(message.strip()) if found else error
