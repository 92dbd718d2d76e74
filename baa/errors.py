"""Errors that a user can fix."""


class InputError(Exception):
    """A config, file, label or checkpoint that cannot be used.

    The message has the form `thing: what is wrong; what to do`.
    """
