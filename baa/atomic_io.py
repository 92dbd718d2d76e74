"""Files that are there whole or not at all, and the folders that they go to."""

import contextlib
import errno
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from baa.errors import InputError

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a disk, or of a share of one, that takes no more."""

BESIDE = ".new"
"""Ends the stem of a file that is being written."""


def make_folder(folder: Path) -> None:
    """Make a folder for output, and those above it.

    Raises:
        InputError: a file is in its place, the disk is full, or the folder above not ours.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}; give another folder") from error


def write_whole(file: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a kill, sees the old one or the new one and never half of one.

    Raises:
        InputError: the disk is full, or the folder not ours.
    """
    with replacing(file) as fresh:
        fresh.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A file beside another to write, of the same suffix; written to its end it takes the other's place, else it goes again.

    Raises:
        InputError: the disk is full, or the folder not ours.
    """
    fresh = file.with_name(f".{file.stem}.{uuid.uuid4().hex[:8]}{BESIDE}{file.suffix}")  # no other process writes to it
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield fresh
        fresh.replace(file)
    except OSError as error:
        if error.errno is None:  # of a library, about what it was to write
            raise
        mend = "make room" if error.errno in FULL else "give another place"
        raise InputError(f"{file} cannot be written: {error.strerror}; {mend}") from error
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object, empty where there is no file."""
    return json.loads(file.read_text()) if file.exists() else {}
