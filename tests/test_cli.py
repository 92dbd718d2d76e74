"""What a command says of a file that it may not touch."""

import errno
import os

import pytest

from baa.cli import run_command
from baa.errors import InputError


@pytest.mark.parametrize(
    ("error", "said"),
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
def test_what_a_user_can_mend_is_one_line_and_exit_code_2(error, said, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as left:
        run_command(main)
    assert left.value.code == 2
    assert capsys.readouterr().err == said + "\n"


def test_an_error_of_ours_keeps_its_traceback():
    def main():
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    with pytest.raises(OSError, match="Bad file descriptor"):
        run_command(main)
