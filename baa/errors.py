"""What a user can mend."""


class InputError(Exception):
    """A config, file, label or checkpoint that cannot be used; the message names it, its place and the mend."""
