"""Atomic files: a reader finds the old content or the new content, never a part. Also output folders and JSON."""

import contextlib
import errno
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from baa.errors import InputError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk or an exhausted quota."""

TEMPORARY = ".new"
"""The end of a temporary file's stem. It is random otherwise."""


def make_folder(folder: Path) -> None:
    """Make an output folder and its parents.

    Raises:
        InputError: a file has this name, the disk is full, or permission is missing.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot make the folder ({error.strerror}); choose another folder") from error


def write_atomic(file: Path, content: str | bytes) -> None:
    """Write a file atomically; a kill leaves the old content or the new content.

    Raises:
        InputError: the disk is full, or permission is missing.
    """
    with atomic_path(file) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def atomic_path(file: Path) -> Iterator[Path]:
    """A temporary path in the same folder, with the same suffix. It replaces the file at the end; an error deletes it.

    Raises:
        InputError: the disk is full, or permission is missing.
    """
    temporary = file.with_name(f".{uuid.uuid4().hex}{TEMPORARY}{file.suffix}")  # unique, and no longer than a name may be
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(file)
    except OSError as error:
        if error.errno is None:  # raised by a library because of the content
            raise
        advice = "free disk space" if error.errno in DISK_FULL else "choose another place"
        raise InputError(f"{file}: cannot write the file ({error.strerror}); {advice}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one if there is no file.

    Raises:
        InputError: the file is empty, cut short or holds something else.
    """
    if not file.exists():
        return {}
    try:
        content = json.loads(file.read_bytes())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{file}: empty, cut short or no JSON object; restore it, or remove it to compute its content again")
    return content
