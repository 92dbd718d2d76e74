"""What a command prints, and its exit code, when it cannot go on."""

import errno
import os

import pytest

from baa.cli import run_command
from baa.errors import InputError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("data.root: x is not a folder"), "baa: data.root: x is not a folder"),
        (
            PermissionError(errno.EACCES, os.strerror(errno.EACCES), "theirs.csv"),
            "baa: theirs.csv cannot be used: Permission denied",
        ),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "ours.csv"),
            "baa: ours.csv cannot be written: No space left on device",
        ),
    ],
)
def test_an_error_that_the_user_can_fix_is_one_line_and_exit_code_2(error, line, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as exit_:
        run_command(main)
    assert exit_.value.code == 2
    assert capsys.readouterr().err == line + "\n"


def test_any_other_error_keeps_its_traceback():
    def main():
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    with pytest.raises(OSError, match="Bad file descriptor"):
        run_command(main)
