"""What a command prints: its help, and one line when it cannot go on."""

import errno
import importlib
import os
import re
import sys

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


@pytest.mark.parametrize(
    "command", ["fit", "predict", "evaluate", "calibrate", "compare", "stress", "export", "app", "sweep", "bench"]
)
def test_help_fits_two_screens_and_has_three_examples(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    with pytest.raises(SystemExit) as exit_:
        importlib.import_module(f"baa.{command}").main()
    assert exit_.value.code == 0
    text = capsys.readouterr().out.partition("\nsettings (")[0]
    assert len(text.splitlines()) <= 60
    examples = re.search(r"^examples.*\n((?:  .+\n)+)", text, flags=re.M)[1]
    assert len(re.findall(r"^  \S", examples, flags=re.M)) == 3
