"""What a user can mend: one line on standard error and exit code 2, never a traceback."""

import errno
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
NOT_OURS = (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR)


class InputError(Exception):
    """A config, file, label or checkpoint that cannot be used; the message names it, its place and the mend."""


def run_command(main: Callable[[], None]) -> None:
    """Run a command and leave the process: 0 when done, 2 for an `InputError`, a full disk or a file
    that is not the user's, 130 when interrupted.
    """
    try:
        main()
    except InputError as error:
        sys.exit(_refusal(str(error)))
    except OSError as error:
        if error.errno not in (*NO_ROOM, *NOT_OURS):
            raise
        lacking = "written" if error.errno in NO_ROOM else "used"
        sys.exit(_refusal(f"{error.filename or 'a file'} cannot be {lacking}: {error.strerror}"))
    except KeyboardInterrupt:
        sys.stderr.write("baa: interrupted\n")
        sys.exit(130)


def share(text: str) -> float:
    """Of the command line: a number between 0 and 1, both out of reach.

    Raises:
        ArgumentTypeError: another number, or none.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1:
        raise ArgumentTypeError(f"{text} is not between 0 and 1")
    return number


def _refusal(message: str) -> int:
    sys.stderr.write(f"baa: {message}\n")
    return 2
